"""Registers passkeys and signs in, with the browser's virtual authenticators.

The page's JavaScript is the one that docs/passkeys.md shows.
"""

import contextlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from server import ROOT, Countersign, request
from webdriver import Browser

USER = "user-0001"


class Server(Countersign):
    """A server with a service whose relying party is the page."""

    def create_service(self, origin):
        form = {
            "FriendlyName": "Owl Bank",
            "Passkeys.RelyingParty.Id": "localhost",
            "Passkeys.RelyingParty.Name": "Owl Bank",
            "Passkeys.RelyingParty.Origins": origin,
            "Passkeys.AuthenticatorAttachment": "any",
            "Passkeys.DiscoverableCredentials": "preferred",
            "Passkeys.UserVerification": "required",
        }
        self.service = f"{self.url}/v2/Services/{self.post('/v2/Services', form)['sid']}"

    def call(self, route, body):
        return request("POST", f"{self.service}/Passkeys/{route}", body, self.headers)


class Backend(BaseHTTPRequestHandler):
    """The backend of the page. It has one user, and remembers no sessions."""

    countersign = None
    config = {}
    page = ""

    def do_GET(self):
        self.answer(200, self.page.encode(), "text/html")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/passkeys/options":
            new = {"friendly_name": body["name"], "identity": USER, "config": self.config}
            status, reply = self.countersign.call("Factors", new)
        elif self.path == "/passkeys/verify":
            status, reply = self.countersign.call("VerifyFactor", body)
        elif self.path == "/sign-in/options":
            status, reply = self.countersign.call("Challenges", {"identity": body.get("userName")})
        else:
            status, reply = self.countersign.call("ApproveChallenge", body)
        if status < 300 and self.path.endswith("/options"):
            reply = reply["options"]
        self.answer(status, json.dumps(reply).encode(), "application/json")

    def answer(self, status, body, content_type):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def backend(countersign):
    """Serves the page, and yields its origin."""
    documented = (ROOT / "docs" / "passkeys.md").read_text()
    script = re.search(r"## The page\n.*?```js\n(.*?)```", documented, re.S).group(1)
    Backend.page = f"<!doctype html><title>Owl Bank</title><script>\n{script}</script>"
    Backend.countersign = countersign
    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()


def verified(result):
    assert isinstance(result, dict) and result["status"] == "verified", result
    return result


def signed_in(result, factor):
    assert isinstance(result, dict) and result["status"] == "approved", result
    assert (result["identity"], result["factor_sid"]) == (USER, factor["sid"]), result


def refused(result, text):
    assert isinstance(result, str) and text in result, result


def platform_authenticator(browser, countersign):
    with browser.authenticator() as authenticator:
        factor = verified(browser.run("register", "Laptop"))
        signed_in(browser.run("signIn"), factor)
        print("ok sign-in without a user name")
        signed_in(browser.run("signIn", USER), factor)
        print("ok sign-in with a user name")
        refused(browser.run("register", "Laptop again"), "InvalidStateError")
        print("ok an authenticator is excluded from a second registration")
        browser.call("POST", authenticator + "/uv", {"isUserVerified": False})
        refused(browser.run("signIn"), "NotAllowedError")
        print("ok no sign-in without user verification")
        browser.call("POST", authenticator + "/uv", {"isUserVerified": True})
        signed_in(browser.run("signIn", USER), factor)
        credential = browser.call("GET", authenticator + "/credentials")[0]
    with browser.authenticator() as authenticator:
        copy = {name: value for name, value in credential.items() if name not in ("backupEligibility", "backupState")}
        browser.call("POST", authenticator + "/credential", copy | {"signCount": 0})
        refused(browser.run("signIn"), "60379")
        alerts = countersign.get("/v1/Alerts")["alerts"]
        assert [alert["resource_sid"] for alert in alerts] == [factor["sid"]], alerts
        print("ok a copied passkey is noticed")


def security_key(browser):
    Backend.config = {"authenticator_attachment": "cross-platform", "discoverable_credentials": "discouraged"}
    with browser.authenticator(transport="usb", hasResidentKey=False):
        factor = verified(browser.run("register", "Security key"))
        signed_in(browser.run("signIn", USER), factor)
        refused(browser.run("signIn"), "NotAllowedError")
    print("ok a security key signs in with a user name only")
    Backend.config["user_verification"] = "discouraged"
    with browser.authenticator(protocol="ctap1/u2f", transport="usb", hasResidentKey=False, hasUserVerification=False):
        verified(browser.run("register", "Old security key"))
    print("ok a security key of the older protocol registers")


def other_origin(browser, origin):
    # The same page under another name: the browser refuses the relying party.
    browser.open(origin.replace("localhost", "127.0.0.1"))
    with browser.authenticator():
        refused(browser.run("register", "Elsewhere"), "SecurityError")
    print("ok another site cannot register")


def run(folder):
    with contextlib.ExitStack() as stack:
        countersign = stack.enter_context(Server())
        origin = stack.enter_context(backend(countersign))
        countersign.create_service(origin)
        browser = stack.enter_context(Browser(folder))
        browser.open(origin)
        platform_authenticator(browser, countersign)
        security_key(browser)
        other_origin(browser, origin)
