"""Every served operation, called through Twilio's own Python library.

The backend's calls use only the library; the phone's key and its signatures are made here. The environment
has BASE_URL, ACCOUNT_SID, AUTH_TOKEN, API_KEY_SID and API_KEY_SECRET. The server must be new, and allow
webhooks to 127.0.0.1. For each checked operation it prints "ok OPERATION", and finally "all operations work".
"""

import asyncio
import base64
import json
import os
import re
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, parse_qsl, urlsplit

import passkeys
import pyotp
import twilio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.rest.verify.v2.service.approve_challenge import ApproveChallengeList
from twilio.rest.verify.v2.service.new_challenge import NewChallengeContext
from twilio.rest.verify.v2.service.new_factor import NewFactorList
from twilio.rest.verify.v2.service.new_verify_factor import NewVerifyFactorList

BASE_URL = os.environ["BASE_URL"]
ACCOUNT_SID = os.environ["ACCOUNT_SID"]
AUTH_TOKEN = os.environ["AUTH_TOKEN"]
IDENTITY = "python-user-0001"
# The longest wait for background work of the server.
PATIENCE = 60


def client_of(user, password, **more):
    client = Client(user, password, ACCOUNT_SID, **more)
    for domain in [client.verify, client.notify, client.monitor, client.api, client.iam]:
        domain.base_url = BASE_URL
    return client


def ok(*operations):
    for operation in operations:
        print("ok", operation, flush=True)


def equal(actual, expected):
    assert actual == expected, f"{actual!r} is not {expected!r}"


def near(moment):
    """Checks that a value is a date with a time zone, close to now."""
    assert abs(moment - datetime.now(timezone.utc)) < timedelta(minutes=5), moment


def refused(status, code, call):
    """Checks that a call raises the library's exception, and returns the exception."""
    try:
        result = call()
    except TwilioRestException as error:
        equal((error.status, error.code), (status, code))
        return error
    raise AssertionError(f"not refused: {result!r}")


def wait(what, look):
    """Calls `look` until it returns something, and returns that."""
    end = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.05)


def paged(name, resource, expected, key="sid", **filters):
    """Checks every way in which the library reads a list, in at least three pages of two."""
    assert len(expected) >= 5, expected

    def keys(items):
        return [getattr(item, key) for item in items]

    equal(keys(resource.list(**filters)), expected)
    equal(keys(resource.list(page_size=2, **filters)), expected)
    equal(keys(resource.list(page_size=2, limit=3, **filters)), expected[:3])
    equal(keys(resource.list(limit=1, **filters)), expected[:1])
    ok(f"{name}.list")
    equal(keys(resource.stream(page_size=2, **filters)), expected)
    equal(keys(resource.stream(page_size=2, limit=5, **filters)), expected[:5])
    ok(f"{name}.stream")

    page = resource.page(page_size=2, **filters)
    equal(page.previous_page(), None)
    second = page.next_page_url
    found, count = [], 0
    while page is not None:
        found, count, last = found + keys(page), count + 1, page
        page = page.next_page()
    equal((found, count), (expected, (len(expected) + 1) // 2))
    equal(last.next_page_url, None)
    # Back to the page before the last one.
    at = (len(expected) - 1) // 2 * 2 - 2
    equal(keys(last.previous_page()), expected[at : at + 2])
    ok(f"{name}.page")
    equal(keys(resource.get_page(second)), expected[2:4])
    # The page token is enough, together with the parameters of the list.
    token = parse_qs(urlsplit(second).query)["PageToken"][0]
    equal(keys(resource.page(page_token=token, page_number=1, page_size=2, **filters)), expected[2:4])
    ok(f"{name}.get_page")


class Phone:
    """A P-256 key, and the signatures of a phone with it."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def public_key(self):
        der = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(der).decode()

    def proof(self, factor_sid):
        """Returns the DER signature that verifies a factor."""
        return base64.b64encode(self.key.sign(factor_sid.encode(), ec.ECDSA(hashes.SHA256()))).decode()

    def answer(self, body, fields, status):
        """Returns the signed JWT that answers a challenge: the fields that the server named, with the answer."""
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
    """Sends a plain GET with the library's own connection, for values that its classes do not show."""
    assert url.startswith(BASE_URL), url
    response = client.verify.request("GET", url.removeprefix(BASE_URL))
    return response.status_code, json.loads(response.text)


class Backend(ThreadingHTTPServer):
    """Receives webhooks, and accepts only those that the library's validator accepts.

    `/gone` responds with 404.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Hook)
        self.events = []
        self.unsigned = []

    def at(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def received(self, path, **expected):
        """Returns the first received event with these parameters."""

        def look():
            for where, event in list(self.events):
                if where == path and expected.items() <= event.items():
                    return event
            return None

        return wait(f"an event with {expected}", look)


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = dict(parse_qsl(body, keep_blank_values=True, strict_parsing=True))
        url = f"http://{self.headers['Host']}{self.path}"
        signature = self.headers["X-Twilio-Signature"]
        if not RequestValidator(AUTH_TOKEN).validate(url, form, signature):
            self.server.unsigned.append((url, form, signature))
            self.answer(403)
        elif self.path == "/gone":
            self.answer(404)
        else:
            # With another token or URL the validator must refuse.
            assert not RequestValidator("0" * 32).validate(url, form, signature)
            assert not RequestValidator(AUTH_TOKEN).validate(url + "x", form, signature)
            self.server.events.append((self.path, form))
            self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def listening():
    backend = Backend()
    Thread(target=backend.serve_forever, daemon=True).start()
    try:
        yield backend
    finally:
        backend.shutdown()
        backend.server_close()
    equal(backend.unsigned, [])


def services(client):
    services = client.verify.v2.services
    made = [services.create(friendly_name=f"Owl Bank {number}") for number in range(5)]
    first = made[0]
    assert first.sid.startswith("VA"), first.sid
    equal((first.account_sid, first.friendly_name), (ACCOUNT_SID, "Owl Bank 0"))
    equal(first.url, f"{BASE_URL}/v2/Services/{first.sid}")
    equal(first.links["entities"], f"{first.url}/Entities")
    equal((first.push["include_date"], first.code_length), (False, 6))
    near(first.date_created)
    other = services.create(
        friendly_name="Everything",
        code_length=4,
        lookup_enabled=True,
        tts_name="Owl",
        push_include_date=True,
        totp_issuer="Owls",
        totp_time_step=40,
        totp_code_length=8,
        totp_skew=2,
    )
    equal((other.code_length, other.lookup_enabled, other.tts_name), (4, True, "Owl"))
    equal(other.totp, {"issuer": "Owls", "time_step": 40, "code_length": 8, "skew": 2})
    equal(other.push["include_date"], True)
    ok("services.create")
    equal(services(other.sid).delete(), True)
    refused(404, 20404, services(other.sid).fetch)

    paged("services", services, [service.sid for service in made])
    for service in made[1:]:
        equal(service.delete(), True)
        refused(404, 20404, service.fetch)
    ok("services.delete")
    service = services(first.sid)
    updated = service.update(friendly_name="Barn Owl Bank", push_include_date=True)
    equal((updated.friendly_name, updated.push["include_date"]), ("Barn Owl Bank", True))
    assert updated.date_updated >= updated.date_created
    equal(service.update(push_include_date=False).friendly_name, "Barn Owl Bank")
    ok("services.update")
    fetched = service.fetch()
    equal((fetched.sid, fetched.friendly_name), (first.sid, "Barn Owl Bank"))
    answer = service.fetch_with_http_info()
    equal((answer.status_code, answer.data.friendly_name), (200, "Barn Owl Bank"))
    ok("services.fetch")
    equal([service.sid for service in services.list()], [first.sid])
    return service


def entities(service):
    made = [service.entities.create(identity=f"python-user-{number:04}") for number in range(1, 6)]
    first = made[0]
    assert first.sid.startswith("YE"), first.sid
    equal((first.identity, first.account_sid, first.service_sid), (IDENTITY, ACCOUNT_SID, first.service_sid))
    equal(first.links["challenges"], f"{first.url}/Challenges")
    near(first.date_created)
    refused(409, 60301, lambda: service.entities.create(identity=IDENTITY))
    refused(400, 60306, lambda: service.entities.create(identity="short"))
    ok("entities.create")
    paged("entities", service.entities, [entity.identity for entity in made], key="identity")
    for entity in made[1:]:
        equal(service.entities(entity.identity).delete(), True)
        refused(404, 20404, service.entities(entity.identity).fetch)
    ok("entities.delete")
    fetched = service.entities(IDENTITY).fetch()
    equal((fetched.sid, fetched.url), (first.sid, first.url))
    ok("entities.fetch")
    return service.entities(IDENTITY)


def alerts(client, service, backend):
    """Runs before all pushes, whose alerts would be among these."""
    hooks = [
        service.webhooks.create(
            friendly_name=f"Nobody {number}", event_types=["factor.created"], webhook_url=backend.at("/gone")
        )
        for number in range(5)
    ]
    entity = service.entities("python-alerts")
    new_factor(entity, Phone())
    listed = client.monitor.v1.alerts.list
    wait("five alerts", lambda: len(listed()) >= 5)
    found = listed()
    equal({alert.resource_sid for alert in found}, {hook.sid for hook in hooks})
    for alert in found:
        assert alert.sid.startswith("NO"), alert.sid
        equal((alert.account_sid, alert.error_code, alert.log_level), (ACCOUNT_SID, "11200", "error"))
        equal((alert.request_method, alert.request_url), ("POST", backend.at("/gone")))
        equal(alert.more_info, "https://www.twilio.com/docs/errors/11200")
        near(alert.date_created)
        near(alert.date_generated)
    sids = [alert.sid for alert in found]
    paged("alerts", client.monitor.v1.alerts, sids)
    newest, oldest = found[0].date_created, found[-1].date_created
    assert newest >= oldest
    second, day = timedelta(seconds=1), timedelta(days=1)
    for filters, expected in [
        ({"log_level": "error"}, sids),
        ({"log_level": "warning"}, []),
        ({"start_date": oldest, "end_date": newest}, sids),
        ({"start_date": newest + second}, []),
        ({"end_date": oldest - second}, []),
        ({"start_date": oldest - day, "log_level": "error"}, sids),
        ({"start_date": (newest + day).date()}, []),
        ({"end_date": (oldest - day).date()}, []),
    ]:
        equal([alert.sid for alert in listed(page_size=2, **filters)], expected)
    ok("alerts.list by log_level", "alerts.list by start_date and end_date")
    alone = client.monitor.v1.alerts(sids[0]).fetch()
    equal((alone.sid, alone.resource_sid), (sids[0], found[0].resource_sid))
    equal(parse_qs(alone.request_variables)["type"], ["factor.created"])
    equal(found[0].fetch().response_body, alone.response_body)
    refused(404, 20404, client.monitor.v1.alerts("NO" + "0" * 32).fetch)
    ok("alerts.fetch")
    for hook in hooks:
        equal(hook.delete(), True)
    equal(entity.delete(), True)


def access_tokens(service):
    made = service.access_tokens.create(
        identity=IDENTITY, factor_type="push", factor_friendly_name="Python's phone", ttl=120
    )
    assert made.sid.startswith("YK"), made.sid
    equal((made.entity_identity, made.factor_type, made.ttl), (IDENTITY, "push", 120))
    equal(made.factor_friendly_name, "Python's phone")
    near(made.date_created)
    equal(service.access_tokens.create(identity=IDENTITY, factor_type="push").ttl, 60)
    refused(400, 60306, lambda: service.access_tokens.create(identity=IDENTITY, factor_type="push", ttl=301))
    ok("access_tokens.create")
    fetched = service.access_tokens(made.sid).fetch()
    equal(fetched.token, made.token)
    equal(fetched.url, f"{BASE_URL}/v2/Services/{made.service_sid}/AccessTokens/{made.sid}")
    refused(404, 20404, service.access_tokens("YK" + "0" * 32).fetch)
    ok("access_tokens.fetch")

    # The use of the token by a phone.
    phone = client_of("token", made.token).verify.v2.services(made.service_sid).entities(IDENTITY)
    refused(403, 20403, phone.fetch)
    enrolled = new_factor(phone, Phone(), friendly_name="Enrolled")
    equal((enrolled.friendly_name, enrolled.status), ("Enrolled", "unverified"))
    refused(404, 20404, service.access_tokens(made.sid).fetch)
    ok("access_tokens as the login of a phone")
    entity = service.entities(IDENTITY)
    equal([factor.sid for factor in entity.factors.list()], [enrolled.sid])
    equal(entity.factors(enrolled.sid).delete(), True)


def new_factor(entity, phone, **more):
    form = {
        "friendly_name": "Phone",
        "factor_type": "push",
        "binding_alg": "ES256",
        "binding_public_key": phone.public_key(),
        "config_app_id": "com.example.app",
        "config_notification_platform": "none",
        "config_sdk_version": "1.0",
    }
    return entity.new_factors.create(**{**form, **more})


def factors(entity, backend):
    phones = [Phone() for _ in range(5)]
    push = {"config_notification_platform": "fcm", "config_notification_token": "t" * 64}
    first = new_factor(entity, phones[0], friendly_name="Phone 0", metadata={"os": "Python"}, **push)
    assert first.sid.startswith("YF"), first.sid
    equal((first.status, first.factor_type, first.identity), ("unverified", "push", IDENTITY))
    equal(first.binding, {"alg": "ES256", "public_key": phones[0].public_key()})
    equal((first.friendly_name, first.metadata), ("Phone 0", {"os": "Python"}))
    equal(first.config["notification_token"], "t" * 64)
    near(first.date_created)
    made = [first] + [new_factor(entity, phone) for phone in phones[1:]]
    refused(409, 60317, lambda: new_factor(entity, phones[0]))
    refused(400, 60314, lambda: new_factor(entity, phones[0], binding_public_key="bm8="))
    event = backend.received("/hook?owl=%7e", type="factor.created", factor_sid=first.sid)
    equal((event["account_sid"], event["service_sid"]), (ACCOUNT_SID, first.service_sid))
    equal((event["entity_identity"], event["factor_type"]), (IDENTITY, "push"))
    ok("new_factors.create")
    sids = [factor.sid for factor in made]
    paged("factors", entity.factors, sids)

    refused(403, 60318, lambda: entity.challenges.create(factor_sid=first.sid, details_message="Too early?"))
    refused(403, 60311, lambda: entity.factors(first.sid).update(auth_payload=phones[1].proof(first.sid)))
    verified = entity.factors(first.sid).update(auth_payload=phones[0].proof(first.sid))
    equal((verified.sid, verified.status), (first.sid, "verified"))
    backend.received("/hook?owl=%7e", type="factor.verified", factor_sid=first.sid)
    ok("factors.update, which verifies")
    updated = entity.factors(first.sid).update(
        friendly_name="My phone", config_notification_token="u" * 64, config_sdk_version="2.0"
    )
    equal((updated.friendly_name, updated.config["notification_token"]), ("My phone", "u" * 64))
    ok("factors.update")
    fetched = entity.factors(first.sid).fetch()
    equal((fetched.status, fetched.friendly_name), ("verified", "My phone"))
    equal((fetched.config["sdk_version"], fetched.metadata), ("2.0", {"os": "Python"}))
    ok("factors.fetch")

    for sid in sids[2:]:
        equal(entity.factors(sid).delete(), True)
        refused(404, 20404, entity.factors(sid).fetch)
        backend.received("/hook?owl=%7e", type="factor.deleted", factor_sid=sid)
    ok("factors.delete")
    other = entity.factors(sids[1]).update(auth_payload=phones[1].proof(sids[1]))
    equal(other.status, "verified")
    return first.sid, phones[0], other.sid


def challenges(client, entity, factor_sid, phone, other_sid, backend):
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
    equal((first.hidden_details, first.responded_reason), ({"txn": "a/b"}, "none"))
    equal(first.links["notifications"], f"{first.url}/Notifications")
    near(first.date_created)

    def ask(sid, **more):
        return entity.challenges.create(factor_sid=sid, details_message="Well?", **more).sid

    sids = [first.sid] + [ask(factor_sid) for _ in range(6)]
    elsewhere = ask(other_sid)
    ok("challenges.create")

    def listed(**filters):
        return [challenge.sid for challenge in entity.challenges.list(page_size=2, **filters)]

    paged("challenges", entity.challenges, sids + [elsewhere])
    equal(listed(factor_sid=factor_sid), sids)
    equal(listed(factor_sid=other_sid), [elsewhere])
    ok("challenges.list by factor_sid")
    equal(listed(order="asc"), sids + [elsewhere])
    equal(listed(order="desc"), [elsewhere] + sids[::-1])
    equal(listed(factor_sid=factor_sid, order="desc"), sids[::-1])
    equal(listed(factor_sid=factor_sid, order="desc", limit=3), sids[:3:-1])
    ok("challenges.list by order")

    for sid, answer in [(sids[0], "approved"), (sids[1], "denied")]:
        fetched = entity.challenges(sid).fetch_with_http_info()
        headers = {name.lower(): value for name, value in fetched.headers.items()}
        fields = headers["twilio-verify-signature-fields"]
        _, body = get(client, fetched.data.url)
        forged = Phone().answer(body, fields, answer)
        refused(403, 60324, lambda: entity.challenges(sid).update(auth_payload=forged))
        answered = entity.challenges(sid).update(auth_payload=phone.answer(body, fields, answer))
        equal((answered.sid, answered.status), (sid, answer))
        near(answered.date_responded)
        again = phone.answer(body, fields, "approved")
        refused(403, 60322, lambda: entity.challenges(sid).update(auth_payload=again))
        equal(entity.challenges(sid).fetch().status, answer)
        equal(listed(status=answer), [sid])
        event = backend.received("/hook?owl=%7e", type=f"challenge.{answer}", challenge_sid=sid)
        equal((event["factor_sid"], event["entity_identity"]), (factor_sid, IDENTITY))
    ok("challenges.fetch", "challenges.update, which approves", "challenges.update, which denies")
    noted = entity.challenges(sids[2]).update(metadata={"seen": "yes"})
    equal((noted.status, noted.metadata), ("pending", {"seen": "yes"}))
    ok("challenges.update")

    # Five pending challenges are three pages.
    filters = {"factor_sid": factor_sid, "status": "pending", "order": "desc"}
    paged("challenges, filtered", entity.challenges, sids[:1:-1], **filters)
    equal(listed(status="pending"), sids[2:] + [elsewhere])
    equal(listed(status="pending", factor_sid=other_sid), [elsewhere])
    equal(listed(status="expired"), [])
    soon = datetime.now(timezone.utc) + timedelta(seconds=10)
    short = ask(factor_sid, expiration_date=soon)
    wait("the end of a challenge", lambda: entity.challenges(short).fetch().status == "expired")
    equal(listed(status="expired"), [short])
    ok("challenges.list by status")
    notifications(entity, sids[2], short, elsewhere)
    # The pending challenges of a deleted factor can no longer be answered.
    entity.factors(other_sid).delete()
    equal(listed(status="expired"), [elsewhere, short])


def notifications(entity, pending, expired, silent):
    challenge = entity.challenges(pending)
    made = challenge.notifications.create(ttl=150)
    assert made.sid.startswith("NT"), made.sid
    equal((made.challenge_sid, made.identity, made.ttl), (pending, IDENTITY, 150))
    equal((made.priority, made.account_sid), ("high", ACCOUNT_SID))
    near(made.date_created)
    equal(challenge.notifications.create().ttl, 300)
    refused(400, 60306, lambda: challenge.notifications.create(ttl=301))
    challenge.notifications.create(ttl=0)
    refused(429, 60309, challenge.notifications.create)
    refused(403, 60323, entity.challenges(expired).notifications.create)
    refused(400, 60307, entity.challenges(silent).notifications.create)
    ok("notifications.create")


def webhooks(service, backend):
    """Creates one webhook for all events, and one for a single event in the old version."""
    hooks = service.webhooks
    made = [
        hooks.create(
            friendly_name=f"Hook {number}",
            event_types=["factor.deleted", "challenge.denied"],
            webhook_url=f"https://backend.example/{number}?a=b",
        )
        for number in range(5)
    ]
    first = made[0]
    assert first.sid.startswith("YW"), first.sid
    equal((first.friendly_name, first.event_types), ("Hook 0", ["factor.deleted", "challenge.denied"]))
    equal((first.status, first.version, first.webhook_method), ("enabled", "v2", "POST"))
    equal((first.webhook_url, first.account_sid), ("https://backend.example/0?a=b", ACCOUNT_SID))
    near(first.date_created)
    off = hooks.create(
        friendly_name="Off",
        event_types=["*"],
        webhook_url=backend.at("/never"),
        status="disabled",
        resource_version="v1",
    )
    equal((off.status, off.version, off.event_types), ("disabled", "v1", ["*"]))
    ok("webhooks.create")
    paged("webhooks", hooks, [hook.sid for hook in made] + [off.sid])
    fetched = hooks(first.sid).fetch()
    equal((fetched.sid, fetched.url), (first.sid, first.url))
    refused(404, 20404, hooks("YW" + "0" * 32).fetch)
    ok("webhooks.fetch")
    changed = hooks(first.sid).update(
        friendly_name="All of it", event_types=["*"], webhook_url=backend.at("/hook?owl=%7e")
    )
    equal((changed.friendly_name, changed.event_types), ("All of it", ["*"]))
    equal(changed.webhook_url, backend.at("/hook?owl=%7e"))
    changed = hooks(made[1].sid).update(
        event_types=["factor.created"], webhook_url=backend.at("/old"), status="disabled", resource_version="v1"
    )
    equal((changed.friendly_name, changed.status, changed.version), ("Hook 1", "disabled", "v1"))
    equal(made[1].update(status="enabled").status, "enabled")
    ok("webhooks.update")
    for hook in made[2:]:
        equal(hook.delete(), True)
        refused(404, 20404, hook.fetch)
    ok("webhooks.delete")


def rate_limits(service):
    limits = service.rate_limits
    made = [limits.create(unique_name=f"limit.{number}", description="Per address") for number in range(5)]
    first = made[0]
    assert first.sid.startswith("RK"), first.sid
    equal((first.unique_name, first.description), ("limit.0", "Per address"))
    near(first.date_created)
    refused(400, 60208, lambda: limits.create(unique_name="limit.0"))
    refused(400, 60209, lambda: limits.create(unique_name="limit 0"))
    ok("rate_limits.create")
    paged("rate_limits", limits, [limit.sid for limit in made])
    equal(limits("limit.0").fetch().sid, first.sid)
    ok("rate_limits.fetch")
    equal(limits(first.sid).update(description="Per user").description, "Per user")
    ok("rate_limits.update")

    buckets = limits(first.sid).buckets
    made_buckets = [buckets.create(max=4, interval=60 + number) for number in range(5)]
    bucket = made_buckets[0]
    assert bucket.sid.startswith("BL"), bucket.sid
    equal((bucket.max, bucket.interval, bucket.rate_limit_sid), (4, 60, first.sid))
    refused(400, 60211, lambda: buckets.create(max=5, interval=60))
    invalid = refused(400, 60200, lambda: buckets.create(max=0, interval=1))
    assert invalid.msg.endswith("Invalid parameter: Max"), invalid.msg
    ok("buckets.create")
    paged("buckets", buckets, [bucket.sid for bucket in made_buckets])
    equal(buckets(bucket.sid).fetch().url, bucket.url)
    ok("buckets.fetch")
    changed = buckets(bucket.sid).update(max=9, interval=3600)
    equal((changed.max, changed.interval), (9, 3600))
    ok("buckets.update")
    equal(buckets(bucket.sid).delete(), True)
    refused(404, 20404, buckets(bucket.sid).fetch)
    ok("buckets.delete")
    for limit in made:
        equal(limits(limit.sid).delete(), True)
        refused(404, 20404, limits(limit.sid).fetch)
    ok("rate_limits.delete")


def messaging_configurations(service):
    configurations, outlet = service.messaging_configurations, "MG" + "0" * 32
    countries = ["AT", "DE", "CH", "FR", "all"]
    for country in countries:
        made = configurations.create(country=country, messaging_service_sid=outlet)
        equal((made.country, made.messaging_service_sid), (country, outlet))
    refused(400, 60213, lambda: configurations.create(country="AT", messaging_service_sid=outlet))
    ok("messaging_configurations.create")
    paged("messaging_configurations", configurations, countries, key="country")
    equal(configurations("all").fetch().url, made.url)
    ok("messaging_configurations.fetch")
    other = "MG" + "1" * 32
    equal(configurations("AT").update(messaging_service_sid=other).messaging_service_sid, other)
    ok("messaging_configurations.update")
    for country in countries:
        equal(configurations(country).delete(), True)
        refused(404, 20404, configurations(country).fetch)
    ok("messaging_configurations.delete")


def safe_list(client):
    numbers, number = client.verify.v2.safelist, "+4366412345678"
    made = numbers.create(phone_number=number)
    assert made.sid.startswith("GN"), made.sid
    refused(409, 60411, lambda: numbers.create(phone_number=number))
    refused(400, 60306, lambda: numbers.create(phone_number="0664"))
    ok("safelist.create")
    equal((numbers(number).fetch().sid, made.phone_number), (made.sid, number))
    ok("safelist.fetch")
    equal(numbers(number).delete(), True)
    refused(404, 20404, numbers(number).fetch)
    ok("safelist.delete")
    form = client.verify.v2.forms("form-push").fetch()
    equal((form.form_type, sorted(form.forms)), ("form-push", ["create_challenge", "create_factor", "verify_factor"]))
    ok("forms.fetch")


def deliveries(backend):
    """Checks the events that all previous operations caused."""
    event = backend.received("/old", type="factor.created", entity_identity=IDENTITY)
    names = ["account_sid", "entity_identity", "factor_sid", "service_sid", "type", "uuid"]
    equal(sorted(event), names)
    equal({path for path, _ in backend.events}, {"/old", "/hook?owl=%7e"})
    everything = {event["type"] for path, event in backend.events if path.startswith("/hook")}
    expected = {"factor.created", "factor.verified", "factor.deleted", "challenge.approved", "challenge.denied"}
    equal(everything, expected)
    equal(backend.unsigned, [])
    ok(*(f"webhook {name}, validated" for name in sorted(expected)))


def service_account(key):
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "owl-bank",
            "private_key_id": "0123456789abcdef",
            "private_key": pem.decode(),
            "client_email": "push@owl-bank.iam.gserviceaccount.com",
            "token_uri": "https://oauth2.googleapis.com/token",
        }
    )


def push_certificate(key, bundle):
    """Returns a self-signed certificate like those that Apple issues for an app."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.USER_ID, bundle),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Apple Push Services: {bundle}"),
        ]
    )
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=300))
    # Apple's extensions for the sandbox and for production; their value is NULL.
    for number in [1, 2]:
        mark = x509.ObjectIdentifier(f"1.2.840.113635.100.6.3.{number}")
        builder = builder.add_extension(x509.UnrecognizedExtension(mark, b"\x05\x00"), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def credentials(client, service):
    credentials = client.notify.v1.credentials
    key = rsa.generate_private_key(65537, 2048)
    # In the format of `openssl rsa`, which Twilio's documentation shows.
    pkcs1 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()
    certificate = push_certificate(key, "com.example.app")
    apn = credentials.create(
        type="apn", friendly_name="Owls on iOS", certificate=certificate, private_key=pkcs1, sandbox=False
    )
    assert apn.sid.startswith("CR"), apn.sid
    equal((apn.type, apn.friendly_name, apn.sandbox), ("apn", "Owls on iOS", "False"))
    equal((apn.account_sid, apn.url), (ACCOUNT_SID, f"{BASE_URL}/v1/Credentials/{apn.sid}"))
    near(apn.date_created)
    other = rsa.generate_private_key(65537, 2048)
    foreign = push_certificate(other, "com.example.app")
    refused(400, 60306, lambda: credentials.create(type="apn", certificate=foreign, private_key=pkcs1))
    ok("credentials.create for APNs")
    account = service_account(key)
    fcm = credentials.create(type="fcm", friendly_name="Owls on Android", secret=account)
    equal((fcm.type, fcm.friendly_name, fcm.sandbox), ("fcm", "Owls on Android", None))
    refused(400, 60306, lambda: credentials.create(type="fcm", secret="AAAA-legacy-server-key"))
    refused(400, 60306, lambda: credentials.create(type="gcm", api_key="AAAA-legacy-server-key"))
    ok("credentials.create for FCM")
    made = [apn, fcm] + [credentials.create(type="fcm", secret=account) for _ in range(3)]
    paged("credentials", credentials, [credential.sid for credential in made])
    fetched = credentials(apn.sid).fetch()
    equal((fetched.sid, fetched.friendly_name), (apn.sid, "Owls on iOS"))
    ok("credentials.fetch")
    equal(credentials(apn.sid).update(friendly_name="Barn owls").friendly_name, "Barn owls")
    equal(credentials(apn.sid).update(sandbox=True).sandbox, "True")
    renewed = push_certificate(key, "com.example.app")
    equal(apn.update(certificate=renewed, private_key=pkcs1, sandbox=False).sandbox, "False")
    equal(fcm.update(secret=service_account(other)).friendly_name, "Owls on Android")
    ok("credentials.update")

    named = service.update(push_apn_credential_sid=apn.sid, push_fcm_credential_sid=fcm.sid)
    equal((named.push["apn_credential_sid"], named.push["fcm_credential_sid"]), (apn.sid, fcm.sid))
    equal(service.fetch().push, named.push)
    # Remove the credential again, so that nothing is sent to Google from here on.
    named = service.update(push_apn_credential_sid="", push_fcm_credential_sid="")
    equal((named.push["apn_credential_sid"], named.push["fcm_credential_sid"]), (None, None))
    ok("services.update with credentials")
    for credential in made:
        equal(credentials(credential.sid).delete(), True)
        refused(404, 20404, credential.fetch)
    equal(credentials.list(), [])
    ok("credentials.delete")


def templates(client):
    templates = client.verify.v2.templates
    [template] = templates.list(friendly_name="Login")
    assert template.sid.startswith("HJ"), template.sid
    equal((template.account_sid, template.channels), (ACCOUNT_SID, ["sms", "voice"]))
    english = template.translations["en"]
    equal((english["text"], english["is_default_translation"]), ("{{code}} logs you in", True))
    near(datetime.fromisoformat(english["date_created"]))
    equal(templates.list(friendly_name="Logout"), [])
    equal([page.sid for page in templates.page(page_size=1)], [template.sid])
    ok("templates.list", "templates.page")


def verifications(client):
    created = client.verify.v2.services.create(friendly_name="Codes", custom_code_enabled=True)
    service, to, code = client.verify.v2.services(created.sid), "+4366412345678", "123456"
    first = service.verifications.create(to=to, channel="sms", custom_code=code, tags='{"campaign":"spring"}')
    equal((first.status, first.valid, first.channel, first.to), ("pending", False, "sms", to))
    equal([attempt["channel"] for attempt in first.send_code_attempts], ["SMS"])
    equal([service.verifications(key).fetch().sid for key in (first.sid, to)], [first.sid] * 2)
    ok("verifications.create", "verifications.fetch")
    wrong = service.verification_checks.create(to=to, code="654321")
    equal((wrong.status, wrong.valid), ("pending", False))
    right = service.verification_checks.create(verification_sid=first.sid, code=code)
    equal((right.sid, right.status, right.valid), (first.sid, "approved", True))
    refused(404, 20404, service.verifications(to).fetch)
    ok("verification_checks.create")
    second = service.verifications.create(to=to, channel="sms")
    equal(service.verifications(second.sid).update(status="canceled").status, "canceled")
    ok("verifications.update")
    refused(400, 60200, lambda: service.verifications.create(to=to, channel="sna"))
    attempts = client.verify.v2.verification_attempts.list(verify_service_sid=created.sid)
    equal([attempt.conversion_status for attempt in attempts], ["unconverted", "converted"])
    service.delete()


def attempts(client):
    """Only the form of the requests is checked: this service sends no codes."""
    verify, service_sid = client.verify.v2, "VA" + "0" * 32
    now = datetime.now(timezone.utc)
    filters = {
        "date_created_after": now - timedelta(days=1),
        "date_created_before": now,
        "country": "AT",
        "channel": "sms",
        "verify_service_sid": service_sid,
    }
    more = {"channel_data_to": "+4366412345678", "verification_sid": "VE" + "0" * 32, "status": "unconverted"}
    equal(verify.verification_attempts.list(**filters, **more), [])
    ok("verification_attempts.list")
    refused(404, 20404, verify.verification_attempts("VL" + "0" * 32).fetch)
    ok("verification_attempts.fetch")
    summary = verify.verification_attempts_summary().fetch(**filters, destination_prefix="+43")
    equal((summary.total_attempts, summary.total_converted, summary.total_unconverted), (0, 0, 0))
    equal((summary.conversion_rate_percentage, summary.url), ("0", f"{BASE_URL}/v2/Attempts/Summary"))
    refused(400, 60306, lambda: verify.verification_attempts_summary().fetch(channel="pigeon"))
    ok("verification_attempts_summary.fetch")


def with_passkeys(client):
    service = client.verify.v2.services.create(
        friendly_name="Passkeys",
        passkeys_relying_party_id="example.com",
        passkeys_relying_party_name="Owl Bank",
        passkeys_relying_party_origins=passkeys.ORIGIN,
        passkeys_authenticator_attachment="any",
        passkeys_discoverable_credentials="preferred",
        passkeys_user_verification="required",
    )
    context = client.verify.v2.services(service.sid)
    for number, algorithm in enumerate(passkeys.ALGORITHMS):
        authenticator = passkeys.Authenticator(algorithm)
        factor = passkey(context, authenticator, f"Passkey {number}")
        sign_in(client, context, authenticator, factor)
    ok("new_factors.create (passkeys)", "new_verify_factors.update", "new_challenge.create", "approve_challenge.update")

    entity = context.entities(IDENTITY)
    equal([factor.factor_type for factor in entity.factors.list()], ["passkeys"] * 3)
    listed = entity.factors.list()[0]
    equal(sorted(listed.metadata), ["aaguid", "date_last_approved"])
    equal(listed.metadata["aaguid"], "00010203-0405-0607-0809-0a0b0c0d0e0f")
    equal(entity.factors(listed.sid).update(friendly_name="Laptop").friendly_name, "Laptop")
    equal({challenge.status for challenge in entity.challenges.list()}, {"approved"})
    equal(entity.factors(listed.sid).delete(), True)
    ok("factors of type passkeys")
    equal(context.delete(), True)


def passkey(context, authenticator, friendly_name):
    """Creates and verifies a passkey with the classes of the library."""
    new = NewFactorList.CreateNewPasskeysFactorRequest(
        {"friendly_name": friendly_name, "identity": IDENTITY, "config": {"user_verification": "required"}}
    )
    made = context.new_factors.create(new)
    equal((made.status, made.factor_type, made.binding), ("unverified", "passkeys", None))
    credential = authenticator.register(made.options)
    request = NewVerifyFactorList.VerifyPasskeysFactorRequest(credential)
    verified = context.new_verify_factors.update(request)
    equal((verified.sid, verified.status, verified.identity), (made.sid, "verified", IDENTITY))
    refused(400, 60383, lambda: context.new_verify_factors.update(request))
    return verified


def sign_in(client, context, authenticator, factor):
    """Signs in with the classes of the library: to this factor, as the user, and without a name."""
    for selection in [{"factor_sid": factor.sid}, {"identity": IDENTITY}, {}]:
        request = NewChallengeContext.CreatePasskeysChallengeRequest(selection)
        challenge = context.new_challenge().create(request)
        equal((challenge.status, challenge.factor_type), ("pending", "passkeys"))
        equal((challenge.details, challenge.expiration_date), (None, None))
        credential = authenticator.sign_in(challenge.options)
        answer = ApproveChallengeList.ApprovePasskeysChallengeRequest(credential)
        approved = context.approve_challenge.update(answer)
        equal((approved.sid, approved.status), (challenge.sid, "approved"))
        equal((approved.identity, approved.factor_sid), (IDENTITY, factor.sid))
        near(approved.date_responded)
        refused(403, 60322, lambda: context.approve_challenge.update(answer))


def documented_backend(client):
    """Runs the Python code of docs/passkeys.md, which uses plain HTTP."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "passkeys.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.S).group(1)
    service = client.verify.v2.services.create(
        friendly_name="Passkeys",
        passkeys_relying_party_id="example.com",
        passkeys_relying_party_name="Owl Bank",
        passkeys_authenticator_attachment="any",
        passkeys_discoverable_credentials="required",
        passkeys_user_verification="required",
    )
    names = {"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN, "service_sid": service.sid}
    exec(code.replace("https://verify.example.com", BASE_URL), names)
    authenticator = passkeys.Authenticator(passkeys.ES256)
    credential = authenticator.register(names["registration_options"](IDENTITY, "Laptop"))
    names["finish_registration"](IDENTITY, credential)
    for identity in [IDENTITY, None]:
        options = names["sign_in_options"](identity)
        equal(names["finish_sign_in"](authenticator.sign_in(options)), IDENTITY)
    client.verify.v2.services(service.sid).delete()
    ok("the documented backend for passkeys")


def errors(client, service_sid):
    missing = "VA" + "0" * 32
    error = refused(404, 20404, client.verify.v2.services(missing).fetch)
    assert f"/Services/{missing} was not found" in error.msg, error.msg
    equal((error.method, str(error)), ("GET", f"HTTP 404 error: {error.msg}"))
    # The library's exception lacks the URL of the documentation, which the response has.
    status, body = get(client, f"{BASE_URL}/v2/Services/{missing}")
    equal((status, body["more_info"]), (404, "https://www.twilio.com/docs/errors/20404"))
    equal(sorted(body), ["code", "message", "more_info", "status"])
    refused(404, 20404, client.verify.v2.services(missing).delete)
    refused(404, 20404, lambda: client.verify.v2.services(missing).update(friendly_name="Nobody's"))
    ok("error 404")
    refused(400, 20002, lambda: client.verify.v2.services.create(friendly_name="x" * 65))
    refused(400, 20001, lambda: client.verify.v2.services.create(friendly_name=""))
    ok("error 400")
    try:
        client.verify.v2.services.list(page_size=1001)
        raise AssertionError("not refused")
    except TwilioException as error:
        # For a refused list the library returns only the response.
        equal(json.loads(error.args[1].text)["code"], 20007)
    ok("error of a list")
    wrong = client_of(ACCOUNT_SID, "f" * 32)
    refused(401, 20003, wrong.verify.v2.services(service_sid).fetch)
    refused(401, 20003, lambda: wrong.verify.v2.services.create(friendly_name="Nobody's"))
    refused(401, 20003, wrong.notify.v1.credentials("CR" + "0" * 32).fetch)
    refused(401, 20003, wrong.monitor.v1.alerts("NO" + "0" * 32).fetch)
    ok("error 401")
    service = client.verify.v2.services(service_sid)


def account(client):
    """Fetches the account, with which many programs check their credentials."""
    with_key = client_of(os.environ["API_KEY_SID"], os.environ["API_KEY_SECRET"])
    for fetched in [client.api.v2010.accounts(ACCOUNT_SID).fetch(), with_key.api.v2010.account.fetch()]:
        equal((fetched.sid, fetched.owner_account_sid), (ACCOUNT_SID, ACCOUNT_SID))
        equal((fetched.status, fetched.type, fetched.auth_token), ("active", "Full", ""))
        near(fetched.date_created)
        equal(fetched.uri, f"/2010-04-01/Accounts/{ACCOUNT_SID}.json")
        equal(fetched.subresource_uris, {"keys": f"/2010-04-01/Accounts/{ACCOUNT_SID}/Keys.json"})
    refused(404, 20404, client.api.v2010.accounts("AC" + "0" * 32).fetch)
    refused(401, 20003, client_of(ACCOUNT_SID, "f" * 32).api.v2010.accounts(ACCOUNT_SID).fetch)
    ok("accounts.fetch")


def api_keys(client):
    """Manages API keys at both of their addresses. The key of the environment exists already."""
    iam = client.iam.v1
    made = [client.new_keys.create(friendly_name=f"Key {number}") for number in range(2)]
    made.append(client.new_keys.create())
    made += [iam.new_api_key.create(account_sid=ACCOUNT_SID, friendly_name=f"Key {number}") for number in range(2)]
    for key in made:
        assert key.sid.startswith("SK") and re.fullmatch("[0-9A-Za-z]{32}", key.secret), key.sid
        near(key.date_created)
        equal(client_of(key.sid, key.secret).verify.v2.services.list(limit=1) != [], True)
    equal([key.friendly_name for key in made], ["Key 0", "Key 1", "API key", "Key 0", "Key 1"])
    equal(made[3].policy, None)
    refused(404, 20404, lambda: iam.new_api_key.create(account_sid="AC" + "0" * 32))
    for more in [{"key_type": "restricted"}, {"policy": {"allow": ["/twilio/verify/services/read"]}}]:
        error = refused(400, 60306, lambda: iam.new_api_key.create(account_sid=ACCOUNT_SID, **more))
        assert "no restricted API keys" in error.msg, error.msg
    with_key = client_of(made[0].sid, made[0].secret)
    refused(403, 20403, with_key.new_keys.create)
    refused(403, 20403, lambda: with_key.iam.v1.new_api_key.create(account_sid=ACCOUNT_SID))
    ok("new_keys.create", "new_api_key.create")

    sids = [os.environ["API_KEY_SID"]] + [key.sid for key in made]
    paged("keys", client.keys, sids)
    paged("get_api_keys", iam.get_api_keys, sids, account_sid=ACCOUNT_SID)
    equal(iam.get_api_keys.list(account_sid=ACCOUNT_SID, limit=1)[0].flags, ["rest_api"])

    first, second = made[0].sid, made[3].sid
    equal(client.keys(first).fetch().friendly_name, "Key 0")
    equal(iam.api_key(second).fetch().friendly_name, "Key 0")
    ok("keys.fetch", "api_key.fetch")
    equal(client.keys(first).update(friendly_name="Owls").friendly_name, "Owls")
    equal(iam.api_key(first).fetch().friendly_name, "Owls")
    equal(iam.api_key(second).update(friendly_name="Barn owls").friendly_name, "Barn owls")
    equal(client.keys(second).fetch().friendly_name, "Barn owls")
    ok("keys.update", "api_key.update")
    for key in made:
        resource = client.keys(key.sid) if key in made[:3] else iam.api_key(key.sid)
        refused(403, 20403, client_of(key.sid, key.secret).keys(key.sid).delete)
        equal(resource.delete(), True)
        refused(404, 20404, resource.fetch)
        refused(401, 20003, client_of(key.sid, key.secret).verify.v2.services("VA" + "0" * 32).fetch)
    equal(len(client.keys.list()), 1)
    ok("keys.delete", "api_key.delete")


def api_key(service_sid):
    client = client_of(os.environ["API_KEY_SID"], os.environ["API_KEY_SECRET"])
    equal(client.verify.v2.services(service_sid).fetch().account_sid, ACCOUNT_SID)
    entity = client.verify.v2.services(service_sid).entities.create(identity="made-with-a-key")
    equal(entity.account_sid, ACCOUNT_SID)
    equal(entity.delete(), True)
    equal(client.notify.v1.credentials.list(), [])
    assert client.monitor.v1.alerts.list(limit=1)
    wrong = client_of(os.environ["API_KEY_SID"], "f" * 32)
    refused(401, 20003, wrong.verify.v2.services(service_sid).fetch)
    ok("API key")


async def with_asyncio(service_sid):
    """Checks the asynchronous half of the library, which has its own connection."""
    async with AsyncTwilioHttpClient() as http:
        client = client_of(ACCOUNT_SID, AUTH_TOKEN, http_client=http)
        entities = client.verify.v2.services(service_sid).entities
        made = [(await entities.create_async(identity=f"python-async-{n}")).identity for n in range(5)]
        listed = [entity.identity for entity in await entities.list_async(page_size=2)]
        assert listed[-5:] == made, listed
        for identity in made:
            equal((await entities(identity).fetch_async()).identity, identity)
            equal(await entities(identity).delete_async(), True)
        try:
            await entities(made[0]).fetch_async()
            raise AssertionError("not refused")
        except TwilioRestException as error:
            equal((error.status, error.code), (404, 20404))
    ok("asyncio")


def wrong_codes(app, number):
    """Returns codes that are wrong for some minutes."""
    near = {app.at(time.time(), counter_offset=step) for step in range(-10, 11)}
    codes = (f"{code:0{app.digits}}" for code in range(10**app.digits))
    return [code for code, _ in zip((code for code in codes if code not in near), range(number))]


def totp(service):
    entity = service.entities("python-totp-0001")

    def create(**more):
        return entity.new_factors.create(**{"friendly_name": "Ada: phone & co", "factor_type": "totp", **more})

    service.update(totp_issuer="Owl Bank: ü", totp_time_step=60, totp_code_length=8, totp_skew=2)
    factor = create(config_alg="sha256", metadata={"os": "Python"})
    assert factor.sid.startswith("YF02"), factor.sid
    equal((factor.status, factor.factor_type, factor.identity), ("unverified", "totp", "python-totp-0001"))
    equal(factor.config, {"alg": "sha256", "skew": 2, "code_length": 8, "time_step": 60})
    equal((factor.options, factor.metadata), (None, {"os": "Python"}))
    app = pyotp.parse_uri(factor.binding["uri"])
    equal((app.issuer, app.name), ("Owl Bank: ü", "Ada: phone & co"))
    equal((app.secret, app.digits, app.interval), (factor.binding["secret"], 8, 60))
    equal(app.digest().name, "sha256")
    secret = pyotp.random_base32()
    imported = create(
        binding_secret=secret, config_alg="sha1", config_time_step=30, config_code_length=6, config_skew=1
    )
    equal(imported.binding["secret"], secret)
    equal(imported.config, {"alg": "sha1", "skew": 1, "code_length": 6, "time_step": 30})
    refused(409, 60317, lambda: create(binding_secret=secret.lower()))
    refused(400, 60314, lambda: create(binding_secret="1"))
    refused(400, 60306, lambda: create(config_alg="md5"))
    ok("new_factors.create, of TOTP")

    resource = entity.factors(factor.sid)
    fetched = resource.fetch()
    equal((fetched.status, fetched.config), ("unverified", factor.config))
    equal([listed.sid for listed in entity.factors.list()], [factor.sid, imported.sid])
    refused(403, 60318, lambda: entity.challenges.create(factor_sid=factor.sid, auth_payload=app.now()))
    refused(400, 60306, lambda: resource.update(auth_payload="12"))
    equal(resource.update(auth_payload=wrong_codes(app, 1)[0]).status, "unverified")
    equal(resource.update(auth_payload=app.at(time.time(), counter_offset=-1)).status, "verified")
    # A verified factor ignores codes.
    equal(resource.update(auth_payload=wrong_codes(app, 1)[0]).status, "verified")
    other = pyotp.parse_uri(imported.binding["uri"])
    equal((other.secret, other.digits, other.interval, other.digest().name), (secret, 6, 30, "sha1"))
    for code in wrong_codes(other, 5):
        equal(entity.factors(imported.sid).update(auth_payload=code).status, "unverified")
    refused(429, 60310, lambda: entity.factors(imported.sid).update(auth_payload=other.now()))
    ok("factors.update, which verifies TOTP")
    updated = resource.update(friendly_name="Tablet", config_skew=1)
    equal((updated.friendly_name, updated.config["skew"]), ("Tablet", 1))
    equal(resource.update(config_skew=2).config["skew"], 2)
    ok("factors.update, of TOTP")

    code = app.now()
    approved = entity.challenges.create(factor_sid=factor.sid, auth_payload=code)
    assert approved.sid.startswith("YC02"), approved.sid
    equal((approved.status, approved.factor_type, approved.factor_sid), ("approved", "totp", factor.sid))
    equal((approved.details, approved.hidden_details), ({"message": "", "fields": []}, None))
    near(approved.date_responded)
    equal(entity.challenges.create(factor_sid=factor.sid, auth_payload=code).status, "pending")
    refused(403, 60322, lambda: entity.challenges(approved.sid).update(auth_payload=code))
    ok("challenges.create, with a code")
    challenge = entity.challenges(
        entity.challenges.create(factor_sid=factor.sid, details_message="Well?", hidden_details={"a": "b"}).sid
    )
    for wrong in wrong_codes(app, 4):
        equal(challenge.update(auth_payload=wrong).status, "pending")
    answered = challenge.update(auth_payload=app.at(time.time(), counter_offset=1), metadata={"try": "5"})
    equal((answered.status, answered.metadata), ("approved", {"try": "5"}))
    equal(challenge.fetch().status, "approved")
    refused(400, 60307, challenge.notifications.create)
    locked = entity.challenges(entity.challenges.create(factor_sid=factor.sid).sid)
    for wrong in wrong_codes(app, 5):
        equal(locked.update(auth_payload=wrong).status, "pending")
    refused(429, 60308, lambda: locked.update(auth_payload=app.at(time.time(), counter_offset=2)))
    ok("challenges.update, with a code")
    equal(resource.delete(), True)
    refused(404, 20404, resource.fetch)
    equal({listed.status for listed in entity.challenges.list()}, {"approved", "expired"})
    equal(entity.delete(), True)


def main():
    print("client twilio-python", twilio.__version__)
    client = client_of(ACCOUNT_SID, AUTH_TOKEN)
    service = services(client)
    service_sid = service.fetch().sid
    with listening() as backend:
        entity = entities(service)
        alerts(client, service, backend)
        credentials(client, service)
        access_tokens(service)
        webhooks(service, backend)
        rate_limits(service)
        messaging_configurations(service)
        safe_list(client)
        factor_sid, phone, other_sid = factors(entity, backend)
        challenges(client, entity, factor_sid, phone, other_sid, backend)
        deliveries(backend)
        totp(service)
    templates(client)
    verifications(client)
    attempts(client)
    with_passkeys(client)
    documented_backend(client)
    errors(client, service_sid)
    account(client)
    api_keys(client)
    api_key(service_sid)
    asyncio.run(with_asyncio(service_sid))
    equal(entity.delete(), True)
    refused(404, 20404, entity.fetch)
    equal(service.delete(), True)
    refused(404, 20404, service.fetch)
    equal(client.verify.v2.services.list(), [])
    print("all operations work")


main()
