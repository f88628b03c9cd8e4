"""What a test gets: an account of its own, with phones and captured pushes and webhooks."""

import re
import time
import urllib.parse

from .server import REQUEST_SECONDS, CountersignError, RequestError

WAIT_SECONDS = 5
# The longest wait of one request.
MAX_WAIT_SECONDS = 60
# The shortest one. Without a wait, the server also returns webhooks whose first attempt still runs.
MIN_WAIT_SECONDS = 0.001
POLL_SECONDS = 0.02
SHOWN_CAPTURES = 5


class Countersign:
    """An account on a server in test mode."""

    def __init__(self, server, friendly_name="test"):
        # The name of a test can have characters that the server refuses in names.
        name = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", friendly_name)[:64]
        account = server.request("POST", "/accounts", {"friendly_name": name})
        self.server = server
        self.url = server.url
        self.account_sid = account["account_sid"]
        self.auth_token = account["auth_token"]
        self.api_key_sid = account["api_key_sid"]
        self.api_key_secret = account["api_key_secret"]
        self.devices = []
        self.pushes = Captures(self, "pushes")
        self.webhooks = Captures(self, "webhooks")
        self._service_sid = None

    @property
    def service_sid(self):
        """The SID of the account's service, which is created when it is first needed."""
        if self._service_sid is None:
            self._service_sid = self.create_service()
        return self._service_sid

    def create_service(self, friendly_name="Test service"):
        """Creates a further service and returns its SID."""
        return self.api("POST", "/v2/Services", {"FriendlyName": friendly_name})["sid"]

    def device(self, identity, behaviour="ignore", *, approve_after=None, service_sid=None, **more):
        """Enrolls a phone for the user `identity`, in the account's service unless `service_sid` names another one.

        `behaviour` is what it does with challenges: one word, or a dictionary with default, script and rules.
        `approve_after` is short for a phone that approves after so many seconds. Further arguments are members
        of the body of `POST /devices`, for example `push="apn"` or `access_token=…`.
        """
        if approve_after is not None:
            behaviour = {"default": {"do": "approve", "after": approve_after}}
        body = {
            "account_sid": self.account_sid,
            "service_sid": service_sid or self.service_sid,
            "identity": identity,
            "behaviour": behaviour,
            **more,
        }
        device = Device(self.server, self.server.request("POST", "/devices", body))
        self.devices.append(device)
        return device

    @property
    def clock(self):
        return self.server.clock

    @property
    def chaos(self):
        return self.server.chaos

    def housekeeping(self):
        return self.server.housekeeping()

    def api(self, method, path, parameters=()):
        """Sends a request of the public API with the account's credentials and returns its JSON."""
        return self.server.api(self.account_sid, self.auth_token, method, path, parameters)

    def twilio(self):
        """Returns a client of Twilio's library, which must be installed, with the address of this server."""
        from twilio.rest import Client

        client = Client(self.account_sid, self.auth_token)
        for domain in (client.verify, client.notify, client.monitor):
            domain.base_url = self.url
        return client

    def report(self):
        """Returns the logs of the account's phones and its last captures, for the output of a failed test."""
        lines = [f"{self.url}, account {self.account_sid}"]
        for device in self.devices:
            lines.append(f"log of the phone of {device.identity}, factor {device.factor_sid}")
            lines += _shown(device.log, _step)
        lines.append("last pushes")
        lines += _shown(lambda: self.pushes.list(limit=SHOWN_CAPTURES), _push)
        lines.append("last webhooks")
        lines += _shown(lambda: self.webhooks.list(limit=SHOWN_CAPTURES), _webhook)
        return "\n".join(lines)


class Device:
    """A phone of the server. The members of the device's JSON are attributes, for example `factor_sid`."""

    def __init__(self, server, values):
        self._server = server
        self._values = values

    def __getattr__(self, name):
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self):
        return f"<phone of {self.identity}, factor {self.factor_sid}>"

    def approve(self, challenge_sid=None, wait=WAIT_SECONDS):
        """Approves a challenge and returns it as the phone shows it; without a SID, the newest pending one.

        Waits up to `wait` seconds for a pending challenge. Raises `RequestError` if the API refuses the answer.
        """
        return self._answer("approve", challenge_sid, wait)

    def deny(self, challenge_sid=None, wait=WAIT_SECONDS):
        """Denies a challenge, otherwise like `approve`."""
        return self._answer("deny", challenge_sid, wait)

    def _answer(self, answer, challenge_sid, wait):
        body = {"wait": wait}
        if challenge_sid is not None:
            body["challenge_sid"] = challenge_sid
        path = f"/devices/{self.id}/{answer}"
        return Challenge(self._server.request("POST", path, body, timeout=wait + REQUEST_SECONDS))

    def behave(self, behaviour):
        """Replaces the behaviour."""
        self._values = self._server.request("PATCH", f"/devices/{self.id}", {"behaviour": behaviour})

    def refresh(self):
        """Reads the device again, for example its `status` and its `pending` challenges."""
        self._values = self._server.request("GET", f"/devices/{self.id}")
        return self

    def log(self):
        """Returns the steps of this phone, oldest first."""
        return self._server.request("GET", f"/devices/{self.id}/log")

    def delete(self):
        """Deletes the factor and the phone, as an app does when its user signs out."""
        self._server.request("DELETE", f"/devices/{self.id}")


class Challenge(dict):
    """A challenge as a phone shows it."""

    def field(self, label):
        """Returns the value of the field with this label in any case, for example the number to be typed."""
        for field in self.get("details", {}).get("fields") or []:
            if field["label"].lower() == label.lower():
                return field["value"]
        raise CountersignError(f"the challenge has no field {label}: {self.get('details')}")


class Captures:
    """The captured pushes or webhooks of an account.

    Filters are `challenge_sid`, `factor_sid`, `type` and `since`.
    """

    def __init__(self, countersign, kind):
        self._countersign = countersign
        self._kind = kind

    def _path(self, filters, more=""):
        query = {"account_sid": self._countersign.account_sid, **filters}
        return f"/{self._kind}{more}?{urllib.parse.urlencode(query)}"

    def list(self, **filters):
        """Returns the captures that fit, oldest first. `limit` returns only the newest."""
        return self._countersign.server.request("GET", self._path(filters))

    def wait(self, timeout=WAIT_SECONDS, where=None, **filters):
        """Returns the newest capture that fits, after waiting for it up to `timeout` seconds.

        A webhook fits only after its first attempt, so the backend has handled it. `where` is a function that gets a
        capture and returns whether it fits, in addition to the filters.
        """
        end = time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            path = self._path({**filters, "wait": min(max(left, MIN_WAIT_SECONDS), MAX_WAIT_SECONDS)})
            found = self._countersign.server.request("GET", path, timeout=left + REQUEST_SECONDS)
            fitting = [capture for capture in found if where is None or where(capture)]
            if fitting:
                return fitting[-1]
            if time.monotonic() >= end:
                wanted = ", ".join(f"{name}={value}" for name, value in filters.items()) or "no filter"
                raise AssertionError(f"none of the {len(found)} {self._kind} fits after {timeout} s ({wanted})")
            # The server does not know the function, so it returns at once what the filters select.
            time.sleep(POLL_SECONDS)

    def clear(self, **filters):
        self._countersign.server.request("DELETE", self._path(filters))


def _shown(read, line):
    try:
        found = read()
    except (CountersignError, OSError) as error:
        return [f"  not available: {error}"]
    return [f"  {line(item)}" for item in found] or ["  none"]


def _step(step):
    words = [step["at"], step["what"]]
    words += [str(step[name]) for name in ("challenge_sid", "do", "status", "code", "words") if step.get(name)]
    return " ".join(words)


def _push(push):
    return f"{push['at']} {push['provider']} {push['challenge_sid']} {push['outcome']}"


def _webhook(webhook):
    attempts = ", ".join(
        " ".join(str(attempt[name]) for name in ("ending", "status", "words") if attempt.get(name))
        for attempt in webhook["attempts"]
    )
    kind = webhook["body"][0]["type"] if webhook.get("body") else webhook["parameters"].get("type")
    return f"{webhook['at']} {kind} to {webhook['url']}: {attempts or 'no attempt yet'}"
