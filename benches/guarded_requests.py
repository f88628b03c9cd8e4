"""Measures what five representative requests cost the server, for benches/guard and benches/run."""

import hashlib
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

from deployment import Server

# Label of each request, by its name in `countersign load`.
REQUESTS = {
    "service": "a backend reads a service",
    "create": "a backend creates a challenge",
    "list": "a device lists pending challenges",
    "get": "a device gets a challenge",
    "answer": "a device answers a challenge",
}

# Few users, so that the figures depend less on how many transactions share a commit.
USERS = 8

# Number of answers to prepare. The measurement ends when all are sent.
ANSWERS = 4000


def measure(binary, driver):
    """Returns the CPU time of the server per request in µs, its instructions per request if they can be counted, and the
    time of a fixed computation on this machine."""
    calibration = calibrate()
    requests = {}
    with tempfile.TemporaryDirectory(prefix="countersign-guard-") as folder:
        storage = ["--data-dir", pathlib.Path(folder) / "data"]
        with open(pathlib.Path(folder) / "server.log", "w") as log, Server(binary, storage, log=log) as server:
            counts = can_count_instructions(server)
            for request in REQUESTS:
                requests[request] = {
                    "cpu_us": measure_cpu_us(server, driver, request),
                    "instructions": count_instructions(server, driver, request) if counts else None,
                }
    return {"calibration_ms": round(min(calibration, calibrate()), 2), "requests": requests}


def load(server, driver, request, duration, warmup="0s"):
    options = ["--concurrency", USERS, "--phones", 64, "--challenges", ANSWERS]
    return server.load(driver, request, *options, "--duration", duration, "--warmup", warmup)


def measure_cpu_us(server, driver, request):
    # Prepared answers are too few for a warm-up.
    measured = load(server, driver, request, "3s", "0s" if request == "answer" else "500ms")
    return round(measured["server"]["cpu_seconds"] / measured["completed"] * 1e6, 1)


def calibrate():
    """Returns the CPU time of a fixed computation in ms. It shows how fast this machine is."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        hashlib.pbkdf2_hmac("sha256", b"countersign", b"guard", 100_000)
        best = min(best, (time.process_time() - began) * 1000)
    return best


def can_count_instructions(server):
    """Returns whether `perf` is installed, permitted, and supported by this processor."""
    if not shutil.which("perf"):
        return False
    # Nothing is counted for a process that does not run.
    return bool(instructions_during(server.process.pid, lambda: urllib.request.urlopen(f"{server.url}/healthz").read()))


def count_instructions(server, driver, request):
    """Returns the instructions of the server per request. A run's preparation also takes instructions, so they are counted
    in a short and a long run, and only the difference is used."""
    counted = []
    # The preparation of answers is long, so the difference must be long too.
    for duration in ["300ms", "5s"] if request == "answer" else ["500ms", "1500ms"]:
        reports = []
        total = instructions_during(server.process.pid, lambda: reports.append(load(server, driver, request, duration)))
        counted.append((total, reports[0]["completed"]))
    (short, few), (long, many) = counted
    return round((long - short) / (many - few)) if many > few else None


def instructions_during(pid, work):
    """Returns how many instructions the process executed in user space during `work`; 0 if they cannot be counted."""
    command = ["perf", "stat", "-x", ",", "-e", "instructions:u", "-p", str(pid)]
    perf = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # Time for perf to attach; it does not say when it has.
    time.sleep(0.2)
    work()
    perf.send_signal(signal.SIGINT)
    _, output = perf.communicate()
    counts = [line.split(",")[0] for line in output.splitlines() if "instructions" in line]
    return int(counts[0]) if counts and counts[0].isdigit() else 0
