"""Runs suites of other languages against the binary, and prints their results.

A suite is a folder with a program `run`. It prints `client NAME VERSION` for each library that it tests and
`ok OPERATION` for each checked operation, and exits with 0. If a tool is missing it prints `missing TOOL ...` and
exits with 77. Other output is shown if it fails.

The binary is the one that COUNTERSIGN_TEST_BINARY names, else a debug build, which this module makes.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
# The suites may have to download their clients first.
SUITE_SECONDS = 900
MISSING = 77


class Failed(Exception):
    """A suite cannot be run; the text is the reason."""


class Missing(Exception):
    """A tool is missing; the text is its name and purpose."""


def main(home, names, description, prepare, has_newest=False):
    """Runs the suites that the command line names, out of the folder `home`, and exits.

    `prepare(name, binary, newest, folder, log_file, stack)` returns the environment of a suite. What it starts is to
    be stopped with `stack`, and output for the case of a failure goes to `log_file`.
    """
    parser = argparse.ArgumentParser(description=description)
    if has_newest:
        parser.add_argument("--newest", action="store_true", help="the newest clients instead of the pinned ones")
    parser.add_argument("name", nargs="*", help=f"suites to run; all of them when none is named: {', '.join(names)}")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.name if name not in names]
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)}")
    # Servers and suites have their own process groups, so they must be ended when this script is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        binary = find_binary()
    except Failed as failed:
        sys.exit(f"{home.relative_to(ROOT)}/run: {failed}")
    newest = has_newest and arguments.newest
    reports = [run(home, name, binary, newest, prepare) for name in arguments.name or names]
    print_table(reports)
    strict = bool(os.environ.get("CI"))
    absent = [report for report in reports if report.result == "missing"]
    for report in absent:
        words = "which is a failure where CI is set" if strict else "so nothing was checked"
        print(f"{report.name}: missing {report.why}, {words}")
    bad = [report for report in reports if report.result == "failed"] + (absent if strict else [])
    sys.exit(1 if bad else 0)


def find_binary():
    """Returns the binary under test, and builds it if necessary."""
    given = os.environ.get("COUNTERSIGN_TEST_BINARY")
    if given:
        path = shutil.which(given)
        if path is None:
            raise Failed(f"COUNTERSIGN_TEST_BINARY is not a program: {given}")
        return Path(path).resolve()
    print("building countersign", flush=True)
    try:
        built = subprocess.run(["cargo", "build", "--locked", "--bin", "countersign"], cwd=ROOT, stdout=sys.stderr)
    except FileNotFoundError:
        raise Failed("cargo is missing; name a binary in COUNTERSIGN_TEST_BINARY") from None
    if built.returncode != 0:
        raise Failed("building countersign failed")
    return TARGET / "debug" / "countersign"


class Report:
    """The result of a suite."""

    def __init__(self, name):
        self.name = name
        self.clients = []
        self.passed = []
        self.result = "failed"
        self.why = ""

    def read(self, output):
        # Build tools color their output, also within a line.
        for line in re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines():
            word, _, rest = line.partition(" ")
            rest = rest.strip()
            if word == "client" and rest:
                self.clients.append(rest)
            elif word == "ok" and rest:
                self.passed.append(rest)
            elif word == "missing" and rest:
                self.why = f"{self.why}; {rest}" if self.why else rest

    def client(self):
        """Returns names and versions of the tested clients."""
        pairs = [client.rsplit(None, 1) for client in self.clients]
        names = [pair[0] for pair in pairs]
        versions = [pair[1] if len(pair) == 2 else "?" for pair in pairs]
        return ", ".join(names) or self.name, ", ".join(versions) or "?"


def run(home, name, binary, newest, prepare):
    report = Report(name)
    print(f"{name} …", flush=True)
    began = time.monotonic()
    script = home / name / "run"
    said = {"suite": "", "server": ""}
    with tempfile.TemporaryDirectory(prefix=f"countersign-{name}-") as folder:
        files = {name: Path(folder) / f"{name}.log" for name in said}
        try:
            if not os.access(script, os.X_OK):
                raise Failed(f"{script.relative_to(ROOT)} is missing or not executable")
            with contextlib.ExitStack() as stack:
                environment = prepare(name, binary, newest, Path(folder), files["server"], stack)
                code = call(script, environment, files["suite"])
            report.read(files["suite"].read_text(errors="replace"))
            judge(report, code)
        except Missing as missing:
            report.result, report.why = "missing", str(missing)
        except Failed as failed:
            report.why = str(failed)
        for who, file in files.items():
            if file.exists():
                said[who] = file.read_text(errors="replace")
    if report.result == "failed":
        # The end of the output shows the failure.
        for who, most in [("suite", 400), ("server", 60)]:
            lines = said[who].splitlines()[-most:]
            if lines:
                print(f"--- {name}: output of the {who}", *lines, sep="\n")
        print(f"--- {name}: {report.why}")
    print(f"{name}: {report.result} after {time.monotonic() - began:.0f} s", flush=True)
    return report


def judge(report, code):
    if code == MISSING and report.why:
        report.result = "missing"
    elif code is None:
        report.why = f"it was stopped after {SUITE_SECONDS} s"
    elif code != 0:
        report.why = f"it ended with {code}"
    elif not report.passed or not report.clients:
        report.why = "it succeeded, but printed no client or no operation"
    else:
        repeated = sorted({name for name in report.passed if report.passed.count(name) > 1})
        if repeated:
            report.why = f"operations named twice: {', '.join(repeated)}"
        else:
            report.result, report.why = "passed", ""


def clean_environment():
    """Returns the environment without variables that would redirect a server or a client."""
    kept = {}
    for name, value in os.environ.items():
        if not name.upper().startswith(("COUNTERSIGN", "TWILIO_", "PYTHON", "NODE_OPTIONS", "NODE_PATH")):
            kept[name] = value
    # Registries may be behind a proxy; the server is not.
    for name in ["NO_PROXY", "no_proxy"]:
        kept[name] = ",".join(filter(None, [kept.get(name), "127.0.0.1", "localhost"]))
    return kept


def call(script, environment, output_file):
    """Runs a suite, and returns its exit code; `None` after a timeout.

    Its output goes to a file, because a daemon that it leaves behind would keep a pipe open.
    """
    with open(output_file, "wb") as output:
        process = subprocess.Popen(
            [str(script)],
            cwd=script.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return process.wait(SUITE_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    finally:
        end_group(process)
        process.wait()


def end_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def print_table(reports):
    head = ("client", "version", "operations", "result")
    rows = [(*report.client(), str(len(report.passed)), report.result) for report in reports]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    print()
    for row in [head, tuple("-" * width for width in widths), *rows]:
        cells = [cell.rjust(width) if column == 2 else cell.ljust(width)
                 for column, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
    print(flush=True)
