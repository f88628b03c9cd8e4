"""A Countersign server for the browser tests."""

import base64
import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
SECONDS = 60
# No proxy: everything here is on this machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def request(method, url, body=None, headers=None):
    """Returns the status and the JSON of a response."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **(headers or {})}
    try:
        with OPENER.open(urllib.request.Request(url, data, headers, method=method), timeout=SECONDS) as response:
            return response.status, json.loads(response.read() or "null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or "null")


def binary():
    """Returns the path of the binary under test."""
    return os.environ.get("COUNTERSIGN_TEST_BINARY") or str(TARGET / "debug" / "countersign")


def clean_environment():
    """Returns the environment without the developer's own settings of Countersign."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}


class Countersign:
    """A server in memory. Stopped at the end of the block."""

    def __init__(self, *options):
        self.account, self.password = "AC" + secrets.token_hex(16), secrets.token_hex(16)
        login = base64.b64encode(f"{self.account}:{self.password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {login}"}
        self.options = options

    def __enter__(self):
        login = {"COUNTERSIGN_ACCOUNT_SID": self.account, "COUNTERSIGN_AUTH_TOKEN": self.password}
        command = [binary(), "serve", "--ephemeral", "--listen", "127.0.0.1:0", "--log", "warn", *self.options]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, env=clean_environment() | login, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        for line in self.process.stdout:
            if line.startswith("countersign listening on "):
                self.url = line.split()[-1]
                return self
        sys.exit(f"the server ended before it was ready: {self.read_log()}")

    def __exit__(self, *_):
        self.stop()
        self.log.close()

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def read_log(self):
        self.log.seek(0)
        return self.log.read()

    def post(self, path, form):
        """Creates or changes a resource with a form, and returns it."""
        data = urllib.parse.urlencode(form).encode()
        made = urllib.request.Request(self.url + path, data, self.headers)
        with OPENER.open(made, timeout=SECONDS) as response:
            return json.load(response)

    def get(self, path):
        status, body = request("GET", self.url + path, None, self.headers)
        assert status == 200, body
        return body

    def delete(self, path):
        status, body = request("DELETE", self.url + path, None, self.headers)
        assert status == 204, body
