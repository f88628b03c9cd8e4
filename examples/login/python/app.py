"""A login page that asks the user's phone. ../README.md describes it."""

import hmac
import json
import os
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import requests
from flask import Flask, Response, abort, jsonify, make_response, request, send_from_directory
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client

SERVER = os.environ["COUNTERSIGN_URL"].rstrip("/")
ACCOUNT = (os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"])
SERVICE_SID = os.environ["VERIFY_SERVICE_SID"]

PAGE = Path(__file__).resolve().parent.parent / "page"
STATES = {"pending": "waiting", "approved": "approved", "denied": "denied", "expired": "expired"}
# A sign-in ends with its challenge, after five minutes. The rest is time for the number.
LOGIN_SECONDS = 600
SESSION_SECONDS = 8 * 3600
POLL_SECONDS = 2

client = Client(*ACCOUNT)
client.verify.base_url = SERVER
service = client.verify.v2.services(SERVICE_SID)
app = Flask(__name__, static_folder=None)


@dataclass
class Login:
    """A sign-in of a browser. The browser's cookie is its key in `logins`."""

    identity: str
    challenge_sid: str
    # The number that the phone shows. The page never receives it.
    number: str
    # How the sign-in ended, if the challenge does not decide it: "signed_in" or "wrong_number".
    ending: str | None = None
    ends_at: float = field(default_factory=lambda: time.time() + LOGIN_SECONDS)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def challenge(self):
        return service.entities(self.identity).challenges(self.challenge_sid)

    def state(self):
        return self.ending or STATES[self.challenge().fetch().status]

    def view(self, state):
        return {"state": state, "identity": self.identity}


# An application with several processes keeps these in its session store.
logins: dict[str, Login] = {}


@app.post("/login")
def start():
    """Asks the user's phone. An application verifies the password before it does this."""
    identity = body_member("identity")
    factor_sid = newest_phone(identity)
    if factor_sid is None:
        return jsonify(error="There is no phone for this user name."), 400
    number = f"{secrets.randbelow(100):02}"
    challenge = service.entities(identity).challenges.create(
        factor_sid=factor_sid,
        details_message="Sign in to Example Bank?",
        details_fields=[{"label": "Code", "value": number}, {"label": "From", "value": request.remote_addr}],
    )
    return remember(Login(identity, challenge.sid, number), "waiting")


@app.get("/login")
def show():
    login = current_login()
    return jsonify(login.view(login.state()))


@app.get("/login/events")
def events():
    """Sends the state of the sign-in when it changes, as Server-Sent Events."""
    login = current_login()

    def stream():
        try:
            for status in [None] if login.ending else answers(login):
                state = login.ending or STATES[status]
                # Something is sent even without a change, because a server notices only then that the page was closed.
                yield ": still waiting\n\n" if state == "waiting" else f"data: {json.dumps(login.view(state))}\n\n"
        except (TwilioException, requests.RequestException):
            # The page asks again when its stream ends.
            return

    return Response(stream(), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})


def answers(login):
    """Yields the status of the challenge at least every 15 seconds, until it is no longer pending.

    It waits on Countersign's stream, and asks every two seconds while there is none, as with Twilio's own service.
    """
    path = f"Services/{SERVICE_SID}/Entities/{quote(login.identity)}/Challenges/{login.challenge_sid}/Events"
    status = "pending"
    while status == "pending":
        try:
            url = f"{SERVER}/countersign/v1/{path}"
            response = requests.get(url, params={"Wait": 15}, auth=ACCOUNT, timeout=30)
            response.raise_for_status()
            status = response.json()["status"]
        except (requests.RequestException, ValueError, KeyError):
            time.sleep(POLL_SECONDS)
            status = login.challenge().fetch().status
        yield status


@app.post("/login/resend")
def resend():
    """Sends the push again, for a phone that was out of reach."""
    current_login().challenge().notifications.create()
    return "", 204


@app.post("/login/number")
def enter_number():
    """Signs the user in if the number is the one that the phone showed when the user approved."""
    login = current_login()
    number = body_member("number").strip()
    # There is only one attempt: an attacker who makes the user approve must not be able to try all the numbers.
    with login.lock:
        state = login.state()
        if state != "approved":
            return jsonify(login.view(state)), 409
        is_right = hmac.compare_digest(number.encode(), login.number.encode())
        login.ending = "signed_in" if is_right else "wrong_number"
    if not is_right:
        return jsonify(login.view(login.ending))
    # A new cookie, so that one planted in this browser beforehand is worth nothing.
    logins.pop(request.cookies["login"], None)
    login.ends_at = time.time() + SESSION_SECONDS
    return remember(login, "signed_in")


@app.post("/logout")
def log_out():
    logins.pop(request.cookies.get("login"), None)
    return "", 204


@app.get("/")
@app.get("/<path:name>")
def page(name="index.html"):
    return send_from_directory(PAGE, name)


@app.after_request
def add_headers(response):
    response.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
    response.headers.setdefault("Cache-Control", "no-store")
    return response


@app.errorhandler(TwilioException)
@app.errorhandler(requests.RequestException)
def verify_failed(error):
    app.logger.error("Verify refused the request or cannot be reached: %s", error)
    if getattr(error, "status", None) == 429:
        return jsonify(error="Too many attempts. Wait a minute and try again."), 429
    return jsonify(error="The sign-in does not work at the moment. Try again."), 502


def newest_phone(identity):
    """Returns the SID of the push factor that the user verified last, or None."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{8,64}", identity):
        return None
    entity = service.entities(identity)
    try:
        entity.fetch()
    except TwilioRestException as error:
        if error.status == 404:
            return None
        raise
    phones = [factor for factor in entity.factors.list() if is_phone(factor)]
    phones.sort(key=lambda phone: phone.date_created)
    return phones[-1].sid if phones else None


def is_phone(factor):
    return factor.factor_type == "push" and factor.status == "verified"


def body_member(name):
    body = request.get_json()
    return str(body.get(name, "")) if isinstance(body, dict) else ""


def current_login():
    login = logins.get(request.cookies.get("login"))
    if login is None or login.ends_at < time.time():
        abort(make_response(jsonify(error="There is no sign-in."), 404))
    return login


def remember(login, state):
    """Gives the browser a new cookie for the sign-in, and forgets those that have ended."""
    now = time.time()
    for key in [key for key, other in list(logins.items()) if other.ends_at < now]:
        logins.pop(key, None)
    key = secrets.token_urlsafe()
    logins[key] = login
    response = jsonify(login.view(state))
    ends_at = datetime.fromtimestamp(login.ends_at, timezone.utc)
    response.set_cookie("login", key, expires=ends_at, secure=request.is_secure, httponly=True, samesite="Strict")
    return response


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), threaded=True)
