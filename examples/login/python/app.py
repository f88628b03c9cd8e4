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
# After a denial or a wrong number, the user's phone is not asked again for this time. Otherwise an attacker could ask
# until the user approves by mistake, and guess one number of a hundred each time.
PAUSE_SECONDS = 60
POLL_SECONDS = 2

client = Client(*ACCOUNT)
client.verify.base_url = SERVER
service = client.verify.v2.services(SERVICE_SID)
app = Flask(__name__, static_folder=None)


@dataclass
class Login:
    """A sign-in that is not complete. The browser's cookie `login` is its key in `logins`."""

    identity: str
    challenge_sid: str
    # The number that the phone shows. The page never receives it.
    number: str
    is_number_wrong: bool = False
    # Whether the pause of its user has begun.
    is_noted: bool = False
    ends_at: float = field(default_factory=lambda: time.time() + LOGIN_SECONDS)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def challenge(self):
        return service.entities(self.identity).challenges(self.challenge_sid)

    def state(self):
        return "wrong_number" if self.is_number_wrong else STATES[self.challenge().fetch().status]

    def view(self, state):
        return {"state": state, "identity": self.identity}


@dataclass
class Session:
    """A user who is signed in. The browser's cookie `session` is its key in `sessions`."""

    identity: str
    ends_at: float = field(default_factory=lambda: time.time() + SESSION_SECONDS)


# An application with several processes keeps these in its session store.
logins: dict[str, Login] = {}
sessions: dict[str, Session] = {}
# When the phone of a user may be asked again.
pauses: dict[str, float] = {}


@app.get("/account")
def account():
    """What only a user who is signed in may see."""
    return jsonify(identity=require_signed_in().identity)


@app.post("/login")
def start():
    """Asks the user's phone. An application verifies the password before it does this."""
    identity = body_member("identity")
    if pauses.get(identity, 0) > time.time():
        return jsonify(error="Too many attempts. Wait a minute and try again."), 429
    factor_sid = newest_phone(identity)
    if factor_sid is None:
        return jsonify(error="There is no phone for this user name."), 400
    number = f"{secrets.randbelow(100):02}"
    challenge = service.entities(identity).challenges.create(
        factor_sid=factor_sid,
        details_message="Sign in to Example Bank?",
        details_fields=[{"label": "Code", "value": number}, {"label": "From", "value": request.remote_addr}],
    )
    login = Login(identity, challenge.sid, number)
    return remember("login", logins, login, login.view("waiting"))


@app.get("/login")
def show():
    session = live(sessions, "session")
    if session:
        return jsonify(state="signed_in", identity=session.identity)
    login = current_login()
    return jsonify(login.view(noted(login, login.state())))


@app.get("/login/events")
def events():
    """Sends the state of the sign-in when it changes, as Server-Sent Events."""
    login = current_login()

    def stream():
        try:
            for status in answers(login):
                state = "wrong_number" if login.is_number_wrong else noted(login, STATES[status])
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
        state = noted(login, login.state())
        if state != "approved" or logins.get(request.cookies["login"]) is not login:
            return jsonify(login.view(state)), 409
        if not hmac.compare_digest(number.encode(), login.number.encode()):
            login.is_number_wrong = True
            return jsonify(login.view(noted(login, "wrong_number")))
        forget()
    session = Session(login.identity)
    return remember("session", sessions, session, login.view("signed_in"))


@app.post("/logout")
def log_out():
    forget()
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


def noted(login, state):
    """Returns the state. After a denial or a wrong number, the user's phone is left alone for a while."""
    if state in ("denied", "wrong_number") and not login.is_noted:
        login.is_noted = True
        pauses[login.identity] = time.time() + PAUSE_SECONDS
    return state


def live(store, cookie):
    """Returns what the cookie is the key of, or None if that has ended."""
    found = store.get(request.cookies.get(cookie))
    return found if found and found.ends_at > time.time() else None


def current_login():
    return live(logins, "login") or abort(make_response(jsonify(error="There is no sign-in."), 404))


def require_signed_in():
    """Returns the session of the browser. Everything that needs a user calls this, and never looks at a sign-in."""
    return live(sessions, "session") or abort(make_response(jsonify(error="Sign in first."), 401))


def remember(cookie, store, entry, view):
    """Gives the browser a new cookie for the entry, in place of all that it had, and removes what has ended."""
    forget()
    now = time.time()
    for entries in (logins, sessions):
        for key in [key for key, other in list(entries.items()) if other.ends_at < now]:
            entries.pop(key, None)
    for identity in [identity for identity, until in list(pauses.items()) if until < now]:
        pauses.pop(identity, None)
    key = secrets.token_urlsafe()
    store[key] = entry
    response = jsonify(view)
    ends_at = datetime.fromtimestamp(entry.ends_at, timezone.utc)
    response.set_cookie(cookie, key, expires=ends_at, secure=request.is_secure, httponly=True, samesite="Strict")
    return response


def forget():
    """Ends the sign-in and the session of the browser."""
    logins.pop(request.cookies.get("login"), None)
    sessions.pop(request.cookies.get("session"), None)


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), threaded=True)
