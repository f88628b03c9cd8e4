"""Creates resources of every kind on the server, so that requests reach some, and new ones to delete."""

import base64
import hashlib
import hmac
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

IDENTITY = "user-0001"


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def public_key(key):
    """Returns the public key as a factor has it."""
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def private_key(key):
    """Returns the private key as a credential for Apple has it."""
    pem = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption()).decode()


def url_safe(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed_answer(key, challenge, status):
    """Returns the answer of a device: the shown challenge with the new status, as a JWS."""
    parts = [{"typ": "JWT", "alg": "ES256"}, challenge | {"status": status}]
    signed = b".".join(url_safe(json.dumps(part).encode()) for part in parts)
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return (signed + b"." + url_safe(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()


def totp_code(secret, steps):
    """Returns the code so many time steps after the current one, with the settings of RFC 6238."""
    counter = int(time.time()) // 30 + steps
    tag = hmac.digest(base64.b32decode(secret), counter.to_bytes(8, "big"), "sha1")
    number = int.from_bytes(tag[tag[-1] & 15 :][:4], "big") & 0x7FFFFFFF
    return f"{number % 10**6:06}"


def client_data(kind, challenge):
    fields = {"type": kind, "challenge": challenge, "origin": "https://example.com", "crossOrigin": False}
    return json.dumps(fields).encode()


def authenticator_data(flags, counter, rest=b""):
    return hashlib.sha256(b"example.com").digest() + bytes([flags]) + counter.to_bytes(4, "big") + rest


def registration(key, options):
    """Returns the credential of a browser for the creation options of a passkey with this ES256 key."""
    numbers = key.public_key().public_numbers()
    identifier = os.urandom(16)
    x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
    cose = bytes.fromhex("a5010203262001215820") + x + bytes.fromhex("225820") + y
    data = authenticator_data(0x45, 0, bytes(16) + b"\x00\x10" + identifier + cose)
    attestation = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58" + bytes([len(data)]) + data
    response = {
        "clientDataJSON": url_safe(client_data("webauthn.create", options["challenge"])).decode(),
        "attestationObject": url_safe(attestation).decode(),
    }
    return {"id": url_safe(identifier).decode(), "response": response}


def assertion(key, identifier, options):
    """Returns the credential of a browser for the request options of a first sign-in."""
    client, data = client_data("webauthn.get", options["challenge"]), authenticator_data(0x05, 1)
    signature = key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
    response = {
        "clientDataJSON": url_safe(client).decode(),
        "authenticatorData": url_safe(data).decode(),
        "signature": url_safe(signature).decode(),
    }
    return {"id": identifier, "rawId": identifier, "authenticatorAttachment": "platform", "response": response}


class Resources:
    def __init__(self, url, user, password, seen=None):
        self.url = url
        self.account = user
        self.authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        # The SIDs by kind.
        self.seen = seen or {}

    def request(self, method, path, form=None):
        data = urllib.parse.urlencode(form or {}, doseq=True).encode() if method == "POST" else None
        request = urllib.request.Request(self.url + path, data, {"Authorization": self.authorization}, method=method)
        with self.opener.open(request, timeout=30) as response:
            return json.loads(response.read() or "null")

    def post(self, path, form):
        return self.request("POST", path, form)

    def post_json(self, path, body):
        headers = {"Authorization": self.authorization, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with self.opener.open(request, timeout=30) as response:
            return json.loads(response.read())

    def new_passkey(self, service):
        """Returns the key of a new passkey, the created factor, and the credential that verifies it."""
        config = {
            "relying_party": {"id": "example.com", "name": "Owl Bank"},
            "authenticator_attachment": "any",
            "discoverable_credentials": "preferred",
            "user_verification": "required",
        }
        identity = f"user-{time.monotonic_ns()}"
        new = {"friendly_name": "Laptop", "identity": identity, "config": config}
        made = self.post_json(f"/v2/Services/{service}/Passkeys/Factors", new)
        key = new_key()
        return key, made, registration(key, made["options"]["publicKey"])

    def new_passkey_challenge(self, service):
        """Returns the credential that approves a new challenge to a new passkey, and the passkey's SID."""
        key, made, credential = self.new_passkey(service)
        self.post_json(f"/v2/Services/{service}/Passkeys/VerifyFactor", credential)
        challenge = self.post_json(f"/v2/Services/{service}/Passkeys/Challenges", {"factor_sid": made["sid"]})
        return assertion(key, credential["id"], challenge["options"]["publicKey"]), made["sid"]

    def entity(self, service, identity=IDENTITY):
        return f"/v2/Services/{service}/Entities/{identity}"

    def new_service(self):
        return self.post("/v2/Services", {"FriendlyName": "Resources"})["sid"]

    def new_entity(self, service):
        identity = f"user-{time.monotonic_ns()}"
        self.post(f"/v2/Services/{service}/Entities", {"Identity": identity})
        return identity

    def new_factor(self, service, identity, platform="none", key=None):
        key = key or new_key()
        form = {
            "FriendlyName": "Phone",
            "FactorType": "push",
            "Binding.PublicKey": public_key(key),
            "Config.AppId": "com.example.app",
            "Config.NotificationPlatform": platform,
            "Config.NotificationToken": "registration-token",
        }
        path = self.entity(service, identity) + "/Factors"
        sid = self.post(path, form)["sid"]
        proof = base64.b64encode(key.sign(sid.encode(), ec.ECDSA(hashes.SHA256()))).decode()
        self.post(f"{path}/{sid}", {"AuthPayload": proof})
        return sid

    def new_totp_factor(self, service, identity):
        """Returns the SID of a verified factor, and its secret."""
        path = self.entity(service, identity) + "/Factors"
        factor = self.post(path, {"FactorType": "totp", "FriendlyName": "Ada's app", "Config.Skew": 2})
        secret = factor["binding"]["secret"]
        self.post(f"{path}/{factor['sid']}", {"AuthPayload": totp_code(secret, -1)})
        return factor["sid"], secret

    def new_challenge(self, service, factor):
        # The longest lifetime, so that it stays pending.
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3500))
        form = {
            "FactorSid": factor,
            "Details.Message": "Sign in?",
            "Details.Fields": ['{"label":"City","value":"Lisbon"}'],
            "HiddenDetails": '{"ip":"192.0.2.1"}',
            "ExpirationDate": expires,
        }
        return self.post(self.entity(service) + "/Challenges", form)

    def new_webhook(self, service):
        form = {
            "FriendlyName": "Backend",
            "EventTypes": ["factor.created", "challenge.approved"],
            "WebhookUrl": "https://backend.example.com/push",
            "Status": "disabled",
        }
        return self.post(f"/v2/Services/{service}/Webhooks", form)["sid"]

    def new_rate_limit(self, service):
        """Returns the SIDs of a new rate limit and its bucket. Deletes the newest one if there are too many."""
        path = f"/v2/Services/{service}/RateLimits"
        limits = self.request("GET", path)["rate_limits"]
        if len(limits) >= 15:
            self.request("DELETE", f"{path}/{limits[-1]['sid']}")
        limit = self.post(path, {"UniqueName": f"limit-{time.monotonic_ns()}"})["sid"]
        return limit, self.post(f"{path}/{limit}/Buckets", {"Max": 4, "Interval": 60})["sid"]

    def new_messaging_configuration(self, service):
        form = {"Country": "AT", "MessagingServiceSid": "MG" + "0" * 32}
        return self.post(f"/v2/Services/{service}/MessagingConfigurations", form)["country"]

    def new_safe_number(self):
        number = f"+43{time.monotonic_ns() % 10**12:012}"
        return self.post("/v2/SafeList/Numbers", {"PhoneNumber": number})["phone_number"]

    def new_verification(self, service):
        """Returns a pending verification of a new number. Its code is unknown."""
        number = f"+43{time.monotonic_ns() % 10**12:012}"
        return self.post(f"/v2/Services/{service}/Verifications", {"To": number, "Channel": "sms"})

    def new_credential(self):
        form = {"Type": "apn", "PrivateKey": private_key(new_key()), "KeyId": "ABC123DEFG", "TeamId": "TEAM123456"}
        return self.post("/v1/Credentials", form)["sid"]

    def new_api_key(self):
        return self.post(f"/2010-04-01/Accounts/{self.account}/Keys", {"FriendlyName": "Script"})["sid"]

    def new_access_token(self, service):
        form = {"Identity": IDENTITY, "FactorType": "push", "Ttl": 300}
        return self.post(f"/v2/Services/{service}/AccessTokens", form)["sid"]

    def create_all(self):
        service, key = self.new_service(), new_key()
        # Requests change the first factor and the last, of TOTP; the second is challenged, and so must stay unchanged.
        factors = [self.new_factor(service, IDENTITY), self.new_factor(service, IDENTITY, "fcm", key)]
        challenges = [self.new_challenge(service, factors[1]) for _ in range(4)]
        for challenge, answer in zip(challenges, ["approved", "denied"]):
            path = f"{self.entity(service)}/Challenges/{challenge['sid']}"
            self.post(path, {"AuthPayload": signed_answer(key, challenge, answer), "Metadata": '{"a":"b"}'})
        totp, secret = self.new_totp_factor(service, IDENTITY)
        factors.append(totp)
        for form in [{"AuthPayload": totp_code(secret, 0)}, {"Details.Message": "Sign in?"}]:
            challenges.append(self.post(self.entity(service) + "/Challenges", {"FactorSid": totp} | form))
        # The service has no push credential, so each push causes an alert.
        alerts = []
        while not alerts:
            time.sleep(0.1)
            alerts = self.request("GET", "/v1/Alerts")["alerts"]
        limit, bucket = self.new_rate_limit(service)
        # Requests change the settings of the other service, some of which permit no verifications.
        codes = self.new_service()
        attempts = self.new_verification(codes)["send_code_attempts"]
        self.seen = {
            "codes": [codes],
            "VL": [attempt["attempt_sid"] for attempt in attempts],
            "RK": [limit],
            "BL": [bucket],
            "countries": [self.new_messaging_configuration(service)],
            "numbers": [self.new_safe_number()],
            "VA": [service],
            "YF": factors,
            "YC": [challenge["sid"] for challenge in challenges],
            "YK": [self.new_access_token(service)],
            "YW": [self.new_webhook(service)],
            "CR": [self.new_credential()],
            "AC": [self.account],
            "SK": [self.new_api_key()],
            "NO": [alert["sid"] for alert in alerts],
            "AE": [event["sid"] for event in self.request("GET", "/v1/Events")["events"]],
        }
