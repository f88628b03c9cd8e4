"""The backend under test: a sign-in that the user's phone approves, written with Twilio's library alone."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from twilio.request_validator import RequestValidator

STATES = {"pending": "waiting", "approved": "signed in", "denied": "refused", "expired": "timed out"}


class LoginBackend:
    """Starts sign-ins and knows their state, from webhooks or by asking the API."""

    def __init__(self, client, service_sid):
        self.service = client.verify.v2.services(service_sid)
        self.validator = RequestValidator(client.password)
        self.states = {}
        # While it is set, the endpoint for webhooks answers 500.
        self.is_broken = False
        # The time that the endpoint takes before it handles a webhook.
        self.delay_seconds = 0
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.http.server_port}/webhooks"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def subscribe(self):
        self.service.webhooks.create(
            friendly_name="sign-ins",
            event_types=["challenge.approved", "challenge.denied"],
            webhook_url=self.url,
            resource_version="v2",
        )

    def start_login(self, identity, code=None):
        """Sends a challenge, which expires after five minutes, to the user's phone. Returns the SID of the sign-in."""
        factors = self.service.entities(identity).factors.list()
        factor = next(factor for factor in factors if factor.status == "verified")
        challenge = self.service.entities(identity).challenges.create(
            factor_sid=factor.sid,
            details_message="Sign in to Example Bank?",
            details_fields=[{"label": "Code", "value": code}] if code else [],
        )
        self.states[challenge.sid] = "waiting"
        return challenge.sid

    def state(self, identity, login):
        """Returns the state of a sign-in. A webhook may be lost, so the API decides."""
        challenge = self.service.entities(identity).challenges(login).fetch()
        self.states[login] = STATES[challenge.status]
        return self.states[login]

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def _handler(self):
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                parameters = {name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()}
                signature = self.headers["X-Twilio-Signature"]
                time.sleep(backend.delay_seconds)
                if backend.is_broken:
                    self.send_response(500)
                elif not backend.validator.validate(backend.url, parameters, signature):
                    self.send_response(403)
                else:
                    backend.states[parameters["challenge_sid"]] = STATES[parameters["type"].removeprefix("challenge.")]
                    self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        return Handler
