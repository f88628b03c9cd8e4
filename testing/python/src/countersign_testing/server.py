"""A Countersign server in test mode: a process of this package, or a running container."""

import base64
import contextlib
import datetime
import http.client
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
import weakref

READY = "countersign listening on "
START_SECONDS = 10
STOP_SECONDS = 10
REQUEST_SECONDS = 30

# Ends the server when its own standard input closes, which also happens when the test process is killed. SIGTERM to the
# process group ends `cat` and the server, which must not get a second signal: that would cut off running requests. It
# can also interrupt `wait`, so that is repeated.
SUPERVISOR = """
is_signaled=
trap '' INT HUP
trap 'is_signaled=1' TERM
exec 3<&0
"$@" </dev/null 3<&- &
exec >&-
cat <&3 >/dev/null
[ "$is_signaled" ] || kill $!
while kill -0 $! 2>/dev/null; do wait $!; done
"""

# The servers of this process, for the processes that are forked from it.
_started = weakref.WeakSet()


def _close_inputs():
    for server in list(_started):
        server._process.stdin.close()
    _started.clear()


# A forked process has the pipe's end too, so it would keep the server running when the test process is killed.
os.register_at_fork(after_in_child=_close_inputs)


class CountersignError(Exception):
    """The server could not be started, or the fixture was used in a way that cannot work."""


class RequestError(CountersignError):
    """The server refused a request. `status` is the HTTP status, `code` the error code of the API."""

    def __init__(self, method, path, status, body):
        self.status = status
        self.body = body if isinstance(body, dict) else {}
        self.code = self.body.get("code")
        message = self.body.get("message") or body
        super().__init__(f"{method} {path}: {status}, code {self.code}: {message}")


def find_binary():
    """Returns the path of the binary: COUNTERSIGN_BINARY, else `countersign` on the PATH."""
    given = os.environ.get("COUNTERSIGN_BINARY")
    path = shutil.which(given or "countersign")
    if path is None:
        reason = f"COUNTERSIGN_BINARY is not a program: {given}" if given else "no program countersign on the PATH"
        raise CountersignError(f"{reason}; install it, or name its path in COUNTERSIGN_BINARY")
    return os.path.abspath(path)


class Server:
    """A server in test mode. `url` is its address, `is_shared` whether other tests use it too."""

    def __init__(self, url, process=None, folder=None, start_seconds=0.0, is_shared=True):
        self.url = url.rstrip("/")
        self.start_seconds = start_seconds
        self.is_shared = is_shared
        self._process = process
        self._folder = folder

    @classmethod
    def start(cls, is_shared=False):
        """Starts a server on a free port of 127.0.0.1 and waits until it is ready."""
        binary = find_binary()
        folder = tempfile.mkdtemp(prefix="countersign-testing-")
        log_path = os.path.join(folder, "server.log")
        command = [binary, "serve", "--test-mode", "local", "--listen", "127.0.0.1:0"]
        # The server refuses test mode with settings of production, which a developer's shell may hold.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN")}
        began = time.monotonic()
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                ["sh", "-c", SUPERVISOR, "countersign", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # A folder without `data`, because the default data folder is relative.
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        server = cls("", process, folder, is_shared=is_shared)
        _started.add(server)
        try:
            server.url = server._read_url()
        except BaseException:
            server.stop()
            raise
        server.start_seconds = time.monotonic() - began
        return server

    @classmethod
    def attach(cls, url):
        """Returns the running server at `url`, for example a container of the image `-test`."""
        server = cls(url)
        server.request("GET", "/")
        return server

    def _read_url(self):
        lines = queue.Queue()

        def read():
            with contextlib.suppress(ValueError):
                for line in self._process.stdout:
                    lines.put(line.decode(errors="replace").strip())
            lines.put(None)

        threading.Thread(target=read, daemon=True, name="countersign-output").start()
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                line = lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise CountersignError(f"the server was not ready after {START_SECONDS} s:\n{self.log()}") from None
            if line is None:
                raise CountersignError(f"the server ended before it was ready:\n{self.log()}")
            if line.startswith(READY):
                return line[len(READY) :].strip()

    def log(self):
        """Returns the end of the server's log, or an empty text if the server is not a process of this package."""
        if self._folder is None:
            return ""
        with contextlib.suppress(OSError), open(os.path.join(self._folder, "server.log"), errors="replace") as log:
            return "".join(log.readlines()[-40:])
        return ""

    def stop(self):
        """Sends SIGTERM and waits for the end of the process. Does nothing for a server that was not started here."""
        # A process that was forked from the test process has a copy of this object, and must not end the server.
        if self not in _started:
            return
        _started.discard(self)
        process, self._process = self._process, None
        # Closing the pipe is not enough if a program that the tests have started inherited it.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise CountersignError(f"the server did not stop within {STOP_SECONDS} s:\n{self.log()}") from None
        finally:
            process.stdout.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def request(self, method, path, body=None, timeout=REQUEST_SECONDS):
        """Sends a request to `/_countersign/v1` and returns the JSON of the response, or `None` if it has no body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if method == "GET" else {"Content-Type": "application/json"}
        return self._send(method, "/_countersign/v1" + path, data, headers, timeout)

    def api(self, account_sid, auth_token, method, path, parameters=()):
        """Sends a request of the public API and returns its JSON. Tests normally use Twilio's library instead."""
        credentials = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"}
        data = None
        if method == "POST":
            data = urllib.parse.urlencode(parameters).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        return self._send(method, path, data, headers, REQUEST_SECONDS)

    def _send(self, method, path, data, headers, timeout):
        address = urllib.parse.urlsplit(self.url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname, address.port, timeout=timeout)
        try:
            connection.request(method, path, body=data, headers=headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        try:
            answer = json.loads(text) if text else None
        except ValueError:
            answer = text
        if response.status >= 300:
            raise RequestError(method, path, response.status, answer)
        return answer

    def housekeeping(self):
        """Runs one round of housekeeping now, and returns the number of removed objects by kind."""
        return self.request("POST", "/housekeeping", {})

    def reset(self):
        """Removes all devices and captures of all accounts, and sets the clock back to the real time."""
        self._require_own("reset")
        self.request("POST", "/reset", {})

    def _require_own(self, what):
        if self.is_shared:
            raise CountersignError(
                f"{what} affects every test on this server; mark the test with "
                "@pytest.mark.countersign_own_server, so that it gets a server of its own"
            )

    @property
    def clock(self):
        self._require_own("the clock")
        return Clock(self)

    @property
    def chaos(self):
        self._require_own("chaos")
        return Chaos(self)


class Clock:
    """The server's clock. It moves forward only."""

    def __init__(self, server):
        self._server = server

    def _set(self, body):
        return _instant(self._server.request("POST", "/clock", body)["now"])

    @property
    def now(self):
        return _instant(self._server.request("GET", "/clock")["now"])

    def advance(self, **duration):
        """Moves the clock forward by the arguments of `timedelta`, for example `minutes=5`. Returns the new time."""
        return self._set({"advance": datetime.timedelta(**duration).total_seconds()})

    def travel_to(self, moment):
        """Moves the clock forward to a `datetime` with a time zone. Returns the new time."""
        return self._set({"to": moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")})

    def freeze(self):
        return self._set({"freeze": True})

    def resume(self):
        return self._set({"resume": True})


class Chaos:
    """Failures that the server makes on purpose."""

    def __init__(self, server):
        self._server = server

    def set(self, **failures):
        """Replaces the failures. The arguments are the members of the body of `PUT /chaos`."""
        return self._server.request("PUT", "/chaos", failures)

    def clear(self):
        self._server.request("DELETE", "/chaos")


def _instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
