"""Writes passkeys.json: registrations and assertions that python-fido2 encodes and python-cryptography signs.

    pip install fido2==2.2.1 cryptography
    python passkeys.py > passkeys.json

Keys are random, so each run writes other values. Except for the deliberate refusals, python-fido2's server accepts every
case, which the script checks.
"""

import json
import os
import sys
from base64 import urlsafe_b64encode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from fido2 import cbor
from fido2.cose import ES256, ES384, RS256, CoseKey, EdDSA
from fido2.webauthn import (
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

RP_ID = "example.org"
ORIGIN = "https://example.org"
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80


def text(value):
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def rp_hash():
    digest = hashes.Hash(hashes.SHA256())
    digest.update(RP_ID.encode())
    return digest.finalize()


def ecdsa(curve, digest):
    key = ec.generate_private_key(curve)
    return key, lambda message: key.sign(message, ec.ECDSA(digest))


def es256():
    key, sign = ecdsa(ec.SECP256R1(), hashes.SHA256())
    return ES256.from_cryptography_key(key.public_key()), sign


def es384():
    key, sign = ecdsa(ec.SECP384R1(), hashes.SHA384())
    return ES384.from_cryptography_key(key.public_key()), sign


def eddsa():
    key = ed25519.Ed25519PrivateKey.generate()
    return EdDSA.from_cryptography_key(key.public_key()), key.sign


def eddsa_448():
    key = ed448.Ed448PrivateKey.generate()
    raw = key.public_key().public_bytes_raw()
    return CoseKey({1: 1, 3: -8, -1: 7, -2: raw}), key.sign


def rs256(bits):
    key = rsa.generate_private_key(65537, bits)
    sign = lambda message: key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return RS256.from_cryptography_key(key.public_key()), sign


def client_data(ceremony, challenge, members):
    data = {"type": ceremony, "challenge": text(challenge), "origin": ORIGIN, "crossOrigin": False} | members
    return CollectedClientData(json.dumps(data, separators=(",", ":")).encode())


def case(name, pair, refusal=None, id_bytes=32, packed=False, extensions=None, flags=UP | UV, members={}, count=0):
    key, sign = pair
    credential_id = os.urandom(id_bytes)
    extension_flag = ED if extensions else 0

    challenge = os.urandom(32)
    collected = client_data("webauthn.create", challenge, members)
    attested = AttestedCredentialData.create(os.urandom(16), credential_id, key)
    data = AuthenticatorData.create(rp_hash(), flags | AT | extension_flag, count, attested, extensions)
    statement = {"alg": key[3], "sig": sign(bytes(data) + collected.hash)} if packed else {}
    attestation = AttestationObject.create("packed" if packed else "none", data, statement)
    registration = {
        "challenge": text(challenge),
        "credential": {
            "id": text(credential_id),
            "rawId": text(credential_id),
            "type": "public-key",
            "response": {
                "clientDataJSON": text(collected),
                "attestationObject": text(attestation),
                "transports": ["internal"],
            },
        },
    }

    challenge = os.urandom(32)
    collected = client_data("webauthn.get", challenge, members)
    data = AuthenticatorData.create(rp_hash(), flags | extension_flag, count + 1, b"", extensions)
    signature = sign(bytes(data) + collected.hash)
    if not refusal:
        key.verify(bytes(data) + collected.hash, signature)
        assert AttestationObject(bytes(attestation)).auth_data.credential_data.public_key == key
    assertion = {
        "challenge": text(challenge),
        "credential": {
            "id": text(credential_id),
            "rawId": text(credential_id),
            "type": "public-key",
            "response": {
                "clientDataJSON": text(collected),
                "authenticatorData": text(data),
                "signature": text(signature),
            },
        },
    }
    return {"name": name, "refusal": refusal, "registration": registration, "assertion": assertion}


cases = [
    case("ES256", es256()),
    case("ES256 with packed self attestation", es256(), packed=True),
    case("ES256 with a credential ID of 1023 bytes", es256(), id_bytes=1023),
    case("ES256 with a credential ID of one byte", es256(), id_bytes=1),
    case("ES256, backed up", es256(), flags=UP | UV | BE | BS, count=7),
    case("ES256 with extensions", es256(), extensions={"credProtect": 2, "hmac-secret": True}),
    case("ES256 with other members in the client data", es256(), members={"later": {"a": [1, None]}}),
    case("EdDSA", eddsa()),
    case("RS256, 2048 bits", rs256(2048)),
    case("RS256, 3072 bits", rs256(3072)),
    case("in a frame of another origin", es256(), "CrossOrigin", members={"crossOrigin": True}),
    case("below another origin", es256(), "TopOrigin", members={"topOrigin": "https://example.com"}),
    case("ES384", es384(), "Algorithm"),
    case("EdDSA on Ed448", eddsa_448(), "PublicKey"),
    case("RS256, 1024 bits", rs256(1024), "PublicKey"),
]
json.dump({"rp_id": RP_ID, "origin": ORIGIN, "cases": cases}, sys.stdout, indent=1)
print()
