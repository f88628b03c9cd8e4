"""Starts the login page under test, a browser's requests to it, and the network between it and Countersign."""

import json
import os
import re
import shlex
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

# The command that starts the login page.
APP = shlex.split(os.environ["LOGIN_APP"])


class Gateway:
    """Forwards requests to Countersign and records their paths. Without streams, it answers as Twilio's service does."""

    def __init__(self, target, has_streams):
        self.target, self.has_streams = target, has_streams
        self.paths = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def _handler(self):
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def forward(self):
                gateway.paths.append(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path.startswith("/countersign/") and not gateway.has_streams:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                headers = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
                url = gateway.target + self.path
                with requests.request(self.command, url, data=body, headers=headers, stream=True, timeout=60) as response:
                    self.send_response(response.status_code)
                    self.send_header("Content-Type", response.headers.get("Content-Type", "text/plain"))
                    self.end_headers()
                    for chunk in response.iter_content(chunk_size=None):
                        self.wfile.write(chunk)

            do_GET = do_POST = forward

            def log_message(self, *_):
                pass

        return Handler


class Browser:
    """A browser that shows the login page: its cookies and its requests."""

    def __init__(self, url):
        self.url = url
        self.session = requests.Session()
        # Everything that the page received.
        self.received = ""

    def _send(self, method, path, body=None):
        response = self.session.request(method, self.url + path, json=body, timeout=60)
        self.received += response.text
        return response

    def other(self, **cookies):
        """Returns another browser with these cookies."""
        browser = Browser(self.url)
        browser.session.cookies.update(cookies)
        return browser

    def account(self):
        """Returns the status of what only a user who is signed in may see."""
        return self._send("GET", "/account").status_code

    def start(self, identity):
        return self._send("POST", "/login", {"identity": identity})

    def state(self):
        return self._send("GET", "/login").json()["state"]

    def resend(self):
        return self._send("POST", "/login/resend", {})

    def enter(self, number):
        return self._send("POST", "/login/number", {"number": number})

    def log_out(self):
        return self._send("POST", "/logout", {})

    def follow(self):
        """Reads the stream of the page until it ends, and returns the states that it contains."""
        response = self._send("GET", "/login/events")
        assert response.headers["Content-Type"].startswith("text/event-stream")
        return [json.loads(data)["state"] for data in re.findall(r"^data: (.*)$", response.text, re.MULTILINE)]


class Site:
    """The login page, which runs against the account of a test."""

    def __init__(self, countersign, has_streams):
        self.gateway = Gateway(countersign.url, has_streams)
        environment = {
            **os.environ,
            "COUNTERSIGN_URL": self.gateway.url,
            "TWILIO_ACCOUNT_SID": countersign.account_sid,
            "TWILIO_AUTH_TOKEN": countersign.auth_token,
            "VERIFY_SERVICE_SID": countersign.service_sid,
            "PORT": "0",
            "PYTHONUNBUFFERED": "1",
        }
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(APP, env=environment, **output)
        self.log = []
        for line in self.process.stdout:
            self.log.append(line)
            listening = re.search(r"http://127\.0\.0\.1:[0-9]+", line)
            if listening:
                self.url = listening.group()
                break
        else:
            raise AssertionError(f"the login page ended before it was ready: {''.join(self.log)}")
        # Reads on, so that the page is not stopped by a full pipe.
        threading.Thread(target=self.log.extend, args=[self.process.stdout], daemon=True).start()

    def browser(self):
        return Browser(self.url)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.gateway.close()


@pytest.fixture
def site(request, countersign):
    site = Site(countersign, request.node.get_closest_marker("without_streams") is None)
    yield site
    site.close()


@pytest.fixture
def browser(site):
    return site.browser()


def pytest_configure(config):
    config.addinivalue_line("markers", "without_streams: the server has no streams, like Twilio's own service")
