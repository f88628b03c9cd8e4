"""An authenticator made of the library fido2, and the calls for passkeys through Twilio's library.

fido2 is independent of Countersign: it parses the options as a browser does, and encodes what an authenticator
sends. It also checks the responses as another relying party would.
"""

import hashlib
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from fido2.cose import ES256, RS256, EdDSA
from fido2.server import Fido2Server
from fido2.utils import websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
    PublicKeyCredentialCreationOptions,
    PublicKeyCredentialRequestOptions,
)

ORIGIN = "https://example.com"
FLAG = AuthenticatorData.FLAG
ALGORITHMS = {
    ES256: (
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda key, data: key.sign(data, ec.ECDSA(hashes.SHA256())),
    ),
    RS256: (
        lambda: rsa.generate_private_key(65537, 2048),
        lambda key, data: key.sign(data, padding.PKCS1v15(), hashes.SHA256()),
    ),
    EdDSA: (ed25519.Ed25519PrivateKey.generate, lambda key, data: key.sign(data)),
}


class Authenticator:
    """One passkey with a key of this algorithm."""

    def __init__(self, algorithm):
        self.algorithm = algorithm
        generate, self.sign = ALGORITHMS[algorithm]
        self.key = generate()
        self.id = os.urandom(32)
        self.counter = 0

    def register(self, options):
        """Returns the credential that a browser returns for the creation options."""
        options = PublicKeyCredentialCreationOptions.from_dict(options["publicKey"])
        assert self.algorithm.ALGORITHM in [parameters.alg for parameters in options.pub_key_cred_params]
        assert options.exclude_credentials is not None
        self.rp_id, self.user_handle = options.rp.id, options.user.id
        public_key = self.algorithm.from_cryptography_key(self.key.public_key())
        self.credential = AttestedCredentialData.create(Aaguid(bytes(range(16))), self.id, public_key)
        client_data = CollectedClientData.create("webauthn.create", options.challenge, ORIGIN)
        data = self.data(FLAG.AT, bytes(self.credential))
        response = {
            "clientDataJSON": client_data.b64,
            "attestationObject": websafe_encode(AttestationObject.create("none", data, {})),
            "transports": ["internal", "hybrid"],
        }
        return self.as_json(response)

    def sign_in(self, options):
        """Returns the credential that a browser returns for the request options."""
        options = PublicKeyCredentialRequestOptions.from_dict(options["publicKey"])
        assert options.rp_id == self.rp_id
        allowed = [allowed.id for allowed in options.allow_credentials or []]
        assert not allowed or self.id in allowed
        self.counter += 1
        client_data = CollectedClientData.create("webauthn.get", options.challenge, ORIGIN)
        data = self.data(FLAG(0))
        signature = self.sign(self.key, data + client_data.hash)
        credential = self.as_json({
            "clientDataJSON": client_data.b64,
            "authenticatorData": websafe_encode(data),
            "signature": websafe_encode(signature),
            "userHandle": websafe_encode(self.user_handle),
        })
        state = {"challenge": websafe_encode(options.challenge), "user_verification": "required"}
        rp = {"id": self.rp_id, "name": "Owl Bank"}
        Fido2Server(rp, verify_origin=lambda origin: origin == ORIGIN).authenticate_complete(
            state, [self.credential], credential
        )
        return credential

    def data(self, flags, credential=b""):
        rp_id_hash = hashlib.sha256(self.rp_id.encode()).digest()
        return AuthenticatorData.create(rp_id_hash, FLAG.UP | FLAG.UV | flags, self.counter, credential)

    def as_json(self, response):
        return {
            "id": websafe_encode(self.id),
            "rawId": websafe_encode(self.id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "response": response,
        }
