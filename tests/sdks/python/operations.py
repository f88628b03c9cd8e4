"""Every operation that the server serves, through Twilio's own Python library.

A backend uses nothing but the library; the phone's key and its signatures are made here. It takes from
the environment: BASE_URL, ACCOUNT_SID, AUTH_TOKEN, API_KEY_SID, API_KEY_SECRET. It prints what it has
checked and ends with "all operations work".
"""

import base64
import json
import os
from datetime import datetime, timedelta, timezone

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client

BASE_URL = os.environ["BASE_URL"]
ACCOUNT_SID = os.environ["ACCOUNT_SID"]
IDENTITY = "python-user-0001"


def client_of(user, password):
    client = Client(user, password, ACCOUNT_SID)
    client.verify.base_url = BASE_URL
    return client


def equal(actual, expected):
    assert actual == expected, f"{actual!r} is not {expected!r}"


def refused(status, code, call):
    """Checks that a call ends in the library's exception, and returns that."""
    try:
        result = call()
    except TwilioRestException as error:
        equal((error.status, error.code), (status, code))
        return error
    raise AssertionError(f"not refused: {result!r}")


class Phone:
    """A P-256 key, and what a phone signs with it."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def public_key(self):
        der = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(der).decode()

    def proof(self, factor_sid):
        """The DER signature that verifies a factor."""
        return base64.b64encode(self.key.sign(factor_sid.encode(), ec.ECDSA(hashes.SHA256()))).decode()

    def answer(self, body, fields, status):
        """The signed JWT that answers a challenge: the fields that the server named, and the answer."""
        claims = {name: body[name] for name in fields.split(",")}
        claims["status"] = status
        parts = [{"typ": "JWT", "alg": "ES256"}, claims]
        signed = b".".join(url_safe(json.dumps(part).encode()) for part in parts)
        r, s = decode_dss_signature(self.key.sign(signed, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return (signed + b"." + url_safe(signature)).decode()


def url_safe(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def get(client, url):
    """A plain GET with the library's own connection, for what its classes don't show."""
    assert url.startswith(BASE_URL), url
    response = client.verify.request("GET", url.removeprefix(BASE_URL))
    return response.status_code, json.loads(response.text)


def services(client):
    made = [client.verify.v2.services.create(friendly_name=f"Owl Bank {number}") for number in range(5)]
    first = made[0]
    assert first.sid.startswith("VA"), first.sid
    equal(first.account_sid, ACCOUNT_SID)
    equal(first.url, f"{BASE_URL}/v2/Services/{first.sid}")
    equal(first.push["include_date"], False)
    assert abs(first.date_created - datetime.now(timezone.utc)) < timedelta(minutes=5)

    # Two of them are a page: the library has to follow the server's links, twice.
    sids = [service.sid for service in made]
    equal([service.sid for service in client.verify.v2.services.list(page_size=2)], sids)
    equal([service.sid for service in client.verify.v2.services.list(page_size=2, limit=3)], sids[:3])
    page = client.verify.v2.services.page(page_size=2)
    equal([service.sid for service in page], sids[:2])
    page = page.next_page()
    equal([service.sid for service in page], sids[2:4])
    page = client.verify.v2.services.get_page(page.next_page_url)
    equal([service.sid for service in page], sids[4:])
    equal(page.next_page(), None)

    for service in made[1:]:
        equal(client.verify.v2.services(service.sid).delete(), True)
        refused(404, 20404, client.verify.v2.services(service.sid).fetch)
    service = client.verify.v2.services(first.sid)
    updated = service.update(friendly_name="Barn Owl Bank", push_include_date=True)
    equal((updated.friendly_name, updated.push["include_date"]), ("Barn Owl Bank", True))
    equal(service.fetch().friendly_name, "Barn Owl Bank")
    equal([service.sid for service in client.verify.v2.services.list()], [first.sid])
    return service


def entities(service):
    made = [service.entities.create(identity=f"python-user-{number:04}") for number in range(1, 6)]
    equal(made[0].identity, IDENTITY)
    assert made[0].sid.startswith("YE"), made[0].sid
    identities = [entity.identity for entity in made]
    equal([entity.identity for entity in service.entities.list(page_size=2)], identities)
    equal([entity.identity for entity in service.entities.stream(page_size=2, limit=4)], identities[:4])
    refused(409, 60301, lambda: service.entities.create(identity=IDENTITY))
    refused(400, 60306, lambda: service.entities.create(identity="short"))
    for entity in made[1:]:
        equal(service.entities(entity.identity).delete(), True)
        refused(404, 20404, service.entities(entity.identity).fetch)
    equal(service.entities(IDENTITY).fetch().sid, made[0].sid)
    return service.entities(IDENTITY)


def access_tokens(service):
    made = service.access_tokens.create(
        identity=IDENTITY, factor_type="push", factor_friendly_name="Python's phone", ttl=120
    )
    assert made.sid.startswith("YK"), made.sid
    equal((made.entity_identity, made.factor_type, made.ttl), (IDENTITY, "push", 120))
    equal(made.factor_friendly_name, "Python's phone")
    fetched = service.access_tokens(made.sid).fetch()
    equal(fetched.token, made.token)
    equal(fetched.url, f"{BASE_URL}/v2/Services/{made.service_sid}/AccessTokens/{made.sid}")
    refused(404, 20404, service.access_tokens("YK" + "0" * 32).fetch)


def factors(entity):
    phones = [Phone() for _ in range(5)]

    def create(number, **more):
        return entity.new_factors.create(
            friendly_name=f"Phone {number}",
            factor_type="push",
            binding_alg="ES256",
            binding_public_key=phones[number].public_key(),
            config_app_id="com.example.app",
            config_sdk_version="1.0",
            **more,
        )

    push = {"config_notification_platform": "fcm", "config_notification_token": "t" * 64}
    first = create(0, metadata={"os": "Python"}, **push)
    made = [first] + [create(number, config_notification_platform="none") for number in range(1, 5)]
    assert first.sid.startswith("YF"), first.sid
    equal((first.status, first.factor_type, first.identity), ("unverified", "push", IDENTITY))
    equal(first.binding, {"alg": "ES256", "public_key": phones[0].public_key()})
    equal(first.metadata, {"os": "Python"})
    equal(first.config["notification_token"], "t" * 64)
    sids = [factor.sid for factor in made]
    equal([factor.sid for factor in entity.factors.list(page_size=2)], sids)
    refused(409, 60317, lambda: create(0, config_notification_platform="none"))

    refused(403, 60318, lambda: entity.challenges.create(factor_sid=first.sid, details_message="Too early?"))
    refused(403, 60311, lambda: entity.factors(first.sid).update(auth_payload=phones[1].proof(first.sid)))
    verified = entity.factors(first.sid).update(auth_payload=phones[0].proof(first.sid))
    equal((verified.sid, verified.status), (first.sid, "verified"))
    updated = entity.factors(first.sid).update(
        friendly_name="My phone", config_notification_token="u" * 64, config_sdk_version="2.0"
    )
    equal((updated.friendly_name, updated.config["notification_token"]), ("My phone", "u" * 64))
    fetched = entity.factors(first.sid).fetch()
    equal((fetched.status, fetched.friendly_name), ("verified", "My phone"))
    equal(fetched.config["sdk_version"], "2.0")

    for sid in sids[2:]:
        equal(entity.factors(sid).delete(), True)
        refused(404, 20404, entity.factors(sid).fetch)
    other = entity.factors(sids[1]).update(auth_payload=phones[1].proof(sids[1]))
    equal(other.status, "verified")
    return first.sid, phones[0], other.sid


def challenges(client, entity, factor_sid, phone, other_sid):
    expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(minutes=10)
    first = entity.challenges.create(
        factor_sid=factor_sid,
        expiration_date=expires,
        details_message="Sign in to Owl Bank/Python?",
        details_fields=[{"label": "IP", "value": "203.0.113.9"}, {"label": "Owl", "value": "ü & 🦉"}],
        hidden_details={"txn": "a/b"},
    )
    assert first.sid.startswith("YC"), first.sid
    equal((first.status, first.factor_sid, first.identity), ("pending", factor_sid, IDENTITY))
    equal((first.expiration_date, first.date_responded), (expires, None))
    equal(first.details["message"], "Sign in to Owl Bank/Python?")
    equal([field["value"] for field in first.details["fields"]], ["203.0.113.9", "ü & 🦉"])
    equal(first.hidden_details, {"txn": "a/b"})

    def ask(sid):
        return entity.challenges.create(factor_sid=sid, details_message="Well?").sid

    sids = [first.sid] + [ask(factor_sid) for _ in range(4)]
    elsewhere = ask(other_sid)

    def listed(**filters):
        return [challenge.sid for challenge in entity.challenges.list(page_size=2, **filters)]

    equal(listed(), sids + [elsewhere])
    equal(listed(factor_sid=factor_sid), sids)
    equal(listed(factor_sid=factor_sid, order="desc"), sids[::-1])
    equal(listed(factor_sid=factor_sid, order="desc", limit=3), sids[:1:-1])

    for sid, answer in [(sids[0], "approved"), (sids[1], "denied")]:
        fetched = entity.challenges(sid).fetch_with_http_info()
        headers = {name.lower(): value for name, value in fetched.headers.items()}
        fields = headers["twilio-verify-signature-fields"]
        _, body = get(client, fetched.data.url)
        forged = Phone().answer(body, fields, answer)
        refused(403, 60324, lambda: entity.challenges(sid).update(auth_payload=forged))
        answered = entity.challenges(sid).update(auth_payload=phone.answer(body, fields, answer))
        equal((answered.sid, answered.status), (sid, answer))
        assert answered.date_responded is not None
        again = phone.answer(body, fields, "approved")
        refused(403, 60322, lambda: entity.challenges(sid).update(auth_payload=again))
        equal(entity.challenges(sid).fetch().status, answer)
        equal(listed(status=answer), [sid])
    equal(listed(status="pending"), sids[2:] + [elsewhere])
    equal(listed(status="pending", factor_sid=other_sid), [elsewhere])
    equal(listed(status="expired"), [])

    noted = entity.challenges(sids[2]).update(metadata={"seen": "yes"})
    equal((noted.status, noted.metadata), ("pending", {"seen": "yes"}))
    entity.factors(other_sid).delete()
    equal(listed(status="expired"), [elsewhere])


def errors(client, service_sid):
    missing = "VA" + "0" * 32
    error = refused(404, 20404, client.verify.v2.services(missing).fetch)
    assert f"/Services/{missing} was not found" in error.msg, error.msg
    # The library's exception has no place for the address of the documentation; the answer has.
    status, body = get(client, f"{BASE_URL}/v2/Services/{missing}")
    equal((status, body["more_info"]), (404, "https://www.twilio.com/docs/errors/20404"))
    equal(sorted(body), ["code", "message", "more_info", "status"])
    refused(400, 20002, lambda: client.verify.v2.services.create(friendly_name="x" * 65))
    try:
        client.verify.v2.services.list(page_size=1001)
        raise AssertionError("not refused")
    except TwilioException as error:
        # Of a list that is refused the library gives no more than the answer itself.
        equal(json.loads(error.args[1].text)["code"], 20007)
    wrong = client_of(ACCOUNT_SID, "f" * 32)
    refused(401, 20003, wrong.verify.v2.services(service_sid).fetch)
    refused(401, 20003, lambda: wrong.verify.v2.services.create(friendly_name="Nobody's"))


def api_key(service_sid):
    client = client_of(os.environ["API_KEY_SID"], os.environ["API_KEY_SECRET"])
    equal(client.verify.v2.services(service_sid).fetch().account_sid, ACCOUNT_SID)
    entity = client.verify.v2.services(service_sid).entities.create(identity="made-with-a-key")
    equal(entity.account_sid, ACCOUNT_SID)
    wrong = client_of(os.environ["API_KEY_SID"], "f" * 32)
    refused(401, 20003, wrong.verify.v2.services(service_sid).fetch)


def main():
    client = client_of(ACCOUNT_SID, os.environ["AUTH_TOKEN"])
    service = services(client)
    print("services")
    entity = entities(service)
    print("entities")
    access_tokens(service)
    print("access tokens")
    factor_sid, phone, other_sid = factors(entity)
    print("factors")
    challenges(client, entity, factor_sid, phone, other_sid)
    print("challenges")
    service_sid = service.fetch().sid
    errors(client, service_sid)
    print("errors")
    api_key(service_sid)
    print("API key")
    equal(entity.delete(), True)
    refused(404, 20404, entity.fetch)
    equal(service.delete(), True)
    refused(404, 20404, service.fetch)
    equal(client.verify.v2.services.list(), [])
    print("all operations work")


main()
