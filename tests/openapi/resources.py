"""Creates resources of every kind on the server, so that requests reach some, and new ones to delete."""

import base64
import json
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


class Resources:
    def __init__(self, url, user, password, seen=None):
        self.url = url
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

    def new_credential(self):
        form = {"Type": "apn", "PrivateKey": private_key(new_key()), "KeyId": "ABC123DEFG", "TeamId": "TEAM123456"}
        return self.post("/v1/Credentials", form)["sid"]

    def new_access_token(self, service):
        form = {"Identity": IDENTITY, "FactorType": "push", "Ttl": 300}
        return self.post(f"/v2/Services/{service}/AccessTokens", form)["sid"]

    def create_all(self):
        service, key = self.new_service(), new_key()
        # Requests change the first factor; the second is challenged, and so must stay unchanged.
        factors = [self.new_factor(service, IDENTITY), self.new_factor(service, IDENTITY, "fcm", key)]
        challenges = [self.new_challenge(service, factors[1]) for _ in range(4)]
        for challenge, answer in zip(challenges, ["approved", "denied"]):
            path = f"{self.entity(service)}/Challenges/{challenge['sid']}"
            self.post(path, {"AuthPayload": signed_answer(key, challenge, answer), "Metadata": '{"a":"b"}'})
        # The service has no push credential, so each push causes an alert.
        alerts = []
        while not alerts:
            time.sleep(0.1)
            alerts = self.request("GET", "/v1/Alerts")["alerts"]
        self.seen = {
            "VA": [service],
            "YF": factors,
            "YC": [challenge["sid"] for challenge in challenges],
            "YK": [self.new_access_token(service)],
            "YW": [self.new_webhook(service)],
            "CR": [self.new_credential()],
            "NO": [alert["sid"] for alert in alerts],
            "AE": [event["sid"] for event in self.request("GET", "/v1/Events")["events"]],
        }
