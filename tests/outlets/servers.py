"""Starts processes of a check in a temporary folder, and ends them."""

import base64
import contextlib
import gzip
import http.client
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

from suites import ROOT, Failed, Missing, clean_environment

STARTED_SECONDS = 30
STOP_SECONDS = 5
# Debian has daemons in a folder that the PATH of a user need not name.
SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/lib/kannel/test"


def find_tool(name, package):
    """Returns the path of a program, or raises `Missing` with the Debian package that has it."""
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        raise Missing(f"{name}; it is in Debian's package {package}: apt-get install {package}")
    return path


def free_ports(count):
    """Returns different ports of 127.0.0.1 on which no program listens."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def wait_for(what, condition, seconds=STARTED_SECONDS):
    """Returns the first result of `condition` that is true, or fails."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise Failed(f"{what}: not after {seconds} s")
        time.sleep(0.02)


def expect(what, actual, expected):
    if actual != expected:
        raise Failed(f"{what}: expected {expected!r}, got {actual!r}")


def require(what, is_true, details=""):
    if not is_true:
        raise Failed(f"{what}: {details}" if details else what)


def recipe(section, replacements):
    """Returns the arguments of the first command in a section of docs/outlets.md, with other addresses.

    Fails if the command has no such address, because the check would not use the documented command otherwise.
    """
    text = (ROOT / "docs/outlets.md").read_text(encoding="utf-8")
    found = re.search(rf"^##+ {re.escape(section)}\n.*?^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise Failed(f"docs/outlets.md has no section {section} with a command")
    command = found[1]
    for old, new in replacements.items():
        if command.count(old) != 1:
            raise Failed(f"the command of {section} in docs/outlets.md does not contain {old} once")
        command = command.replace(old, new)
    # A backslash at the end of a line continues the command.
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    expect(f"program in the command of {section}", program, "countersign")
    return arguments


def table_cell(section, name):
    """Returns the code in the second column of the row with this name, in a table of a section of docs/outlets.md."""
    text = (ROOT / "docs/outlets.md").read_text(encoding="utf-8").partition(f"\n## {section}\n")[2]
    found = re.search(rf"^\| {re.escape(name)} \| `(.*)` \|$", text, re.MULTILINE)
    if not found:
        raise Failed(f"the section {section} of docs/outlets.md has no row {name}")
    return found[1]


def write(path, text, mode=0o644):
    """Writes a file, and returns its path."""
    path.touch(0o600)
    path.chmod(mode)
    path.write_text(text, encoding="utf-8")
    return path


class Processes:
    """The processes of a check, each with a log, which end with the check."""

    def __init__(self, folder):
        self.folder = folder
        # A server of another user must be able to reach its own folder.
        folder.chmod(0o711)
        self.running = {}

    def start(self, name, command, stdin=subprocess.DEVNULL, environment=None):
        """Starts a process whose output goes to a log."""
        with open(self.log(name), "ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command], cwd=self.folder, env=clean_environment() | (environment or {}),
                stdin=stdin, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )
        self.running[name] = process

    def make_folder(self, name):
        """Creates a folder for a server, and returns its path."""
        folder = self.folder / name
        folder.mkdir()
        return folder

    def log(self, name):
        return self.folder / f"{name}.log"

    def require_running(self, name):
        code = self.running[name].poll()
        if code is not None:
            raise Failed(f"{name} ended with {code}")

    def stop(self, name):
        """Stops one process."""
        stop([self.running.pop(name)])

    def end(self):
        stop(list(self.running.values()))
        self.running = {}

    def print_logs(self):
        for name in self.running:
            lines = self.log(name).read_text(errors="replace").splitlines()[-40:]
            print(f"--- end of the log of {name}", *lines, sep="\n", flush=True)


def stop(processes):
    """Stops processes at the same time, and kills those that are still running after a while, with their children."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + STOP_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin:
            process.stdin.close()


class Countersign:
    """A Countersign server with one account, and its command line."""

    def __init__(self, processes, binary):
        self.processes = processes
        self.binary = binary
        self.account_sid = f"AC{secrets.token_hex(16)}"
        self.auth_token = secrets.token_hex(16)
        self.data = ["--data-dir", str(processes.folder / "data")]
        self.port = None

    def start(self, *options, port=0):
        """Starts the server, and waits until it listens."""
        login = ["--account-sid", self.account_sid, "--auth-token", self.auth_token]
        listen = ["--listen", f"127.0.0.1:{port}"]
        self.processes.start("countersign", [self.binary, "serve", *listen, *self.data, *login, *options])

        def listening():
            self.processes.require_running("countersign")
            log = self.processes.log("countersign").read_text()
            return re.search(r"^countersign listening on http://127\.0\.0\.1:(\d+)$", log, re.MULTILINE)

        self.port = int(wait_for("start of countersign", listening)[1])

    def failed_attempts(self):
        """Returns the number of failed attempts to send a message that will be repeated."""
        return self.processes.log("countersign").read_text().count("delivery failed, will retry")

    def run(self, *arguments):
        """Runs a command on the server's data, and returns it with its output."""
        return subprocess.run(
            [self.binary, *arguments, *self.data], cwd=self.processes.folder, env=clean_environment(),
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )

    def command(self, *arguments):
        """Runs a command that must succeed, and returns its output."""
        done = self.run(*arguments)
        if done.returncode != 0:
            raise Failed(f"countersign {shlex.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def refusal(self, *arguments):
        """Runs a command that must fail, and returns its error output."""
        done = self.run(*arguments)
        if done.returncode != 1:
            raise Failed(f"countersign {shlex.join(arguments)} ended with {done.returncode}: {done.stdout.strip()}")
        return done.stderr

    def create_outlet(self, arguments):
        """Creates an outlet, and returns its SID."""
        made = self.command(*arguments)
        found = re.search(r"^outlet sid +(\w+)$", made, re.MULTILINE)
        require("countersign outlet create", found, f"no SID in {made!r}")
        return found[1]

    def request(self, method, path, form=None, headers=None, password=None):
        """Sends a request, and returns status and JSON of the response."""
        credentials = f"{self.account_sid}:{password or self.auth_token}"
        sent = {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            # Sorted, as Go encodes a form.
            body = None if form is None else urllib.parse.urlencode(sorted(form.items()))
            connection.request(method, path, body, sent | (headers or {}))
            response = connection.getresponse()
            content = response.read()
            if response.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
        finally:
            connection.close()
        content_type = response.headers.get("Content-Type")
        expect(f"content type of {method} {path}", content_type, "application/json")
        return response.status, json.loads(content)

    def create(self, path, **form):
        """Creates a resource, and returns it."""
        status, resource = self.request("POST", path, form)
        require(f"POST {path}", status in (200, 201), f"{status} {resource}")
        return resource

    def create_service(self, name="Owl Bank", **form):
        """Creates a service, and returns its path."""
        return f"/v2/Services/{self.create('/v2/Services', FriendlyName=name, **form)['sid']}"

    def send_code(self, service, **form):
        """Creates a verification."""
        verification = self.create(f"{service}/Verifications", **form)
        expect("status of a new verification", verification["status"], "pending")

    def approve(self, service, **form):
        """Approves a verification with the code that was received."""
        checked = self.create(f"{service}/VerificationCheck", **form)
        expect("result of the check of the code", (checked["status"], checked["valid"]), ("approved", True))

