"""Builds and starts what benches/run and benches/guard measure: servers, a throw-away PostgreSQL, and the load driver."""

import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def run_cargo(*arguments, **options):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def build_binary(profile):
    """Builds the binary with this profile of Cargo, and returns its path."""
    print(f"building the binary, profile {profile} …", file=sys.stderr)
    run_cargo("build", "--profile", profile, "--locked")
    metadata = json.loads(run_cargo("metadata", "--no-deps", "--format-version", "1"))
    return pathlib.Path(metadata["target_directory"]) / profile / "countersign"


def build_benches(profile, names):
    """Builds these benches with this profile of Cargo, and returns the path of each executable by name."""
    print(f"building the benches, profile {profile} …", file=sys.stderr)
    options = ["--workspace", "--locked", "--profile", profile, "--no-run", "--message-format", "json"]
    output = run_cargo("bench", *options, *(word for name in names for word in ("--bench", name)))
    messages = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {
        message["target"]["name"]: message["executable"]
        for message in messages
        if message["reason"] == "compiler-artifact" and "bench" in message["target"]["kind"] and message["executable"]
    }


def clean_environment():
    return {key: value for key, value in os.environ.items() if not key.startswith(("COUNTERSIGN_", "PG"))}


class Server:
    """A running server on a free port of 127.0.0.1, with an account of its own. Killed at the end of a `with` block."""

    def __init__(self, binary, storage, *, account=None, log=None, levels="warn"):
        self.account = account or {
            "COUNTERSIGN_ACCOUNT_SID": f"AC{secrets.token_hex(16)}",
            "COUNTERSIGN_AUTH_TOKEN": secrets.token_hex(16),
        }
        began = time.monotonic()
        self.process = subprocess.Popen(
            [binary, "serve", "--listen", "127.0.0.1:0", "--log", levels, *storage],
            env=clean_environment() | self.account,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        line = self.process.stdout.readline()
        # The server prints this line when it accepts requests.
        self.ready_s = time.monotonic() - began
        if not line.startswith("countersign listening on "):
            sys.exit(f"the server did not start: {line!r}")
        self.url = line.split()[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu_s(self):
        """Returns the CPU time that the server has used, in seconds."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def memory_mib(self):
        """Returns the resident memory of the server, in MiB."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        sys.exit("the server has ended")

    def load(self, driver, scenario, *options):
        """Runs `countersign load` against this server and returns its report. Exits if requests failed."""
        command = [driver, "load", "--host", self.url, "--scenario", scenario, "--keep", "--json", *map(str, options)]
        done = subprocess.run(command, env=clean_environment() | self.account, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"failed: {' '.join(map(str, command))}")
        report = json.loads(done.stdout)
        if report["failed"]:
            sys.exit(f"requests failed: {json.dumps(report['errors'], indent=2)}")
        return report


def postgres_folder():
    """Returns the folder of PostgreSQL's programs, or `None` if PostgreSQL is not installed."""
    beside = [pathlib.Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    debian = pathlib.Path("/usr/lib/postgresql").glob("*/bin")
    versions = sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    return next((folder for folder in [*beside, *versions] if (folder / "initdb").exists()), None)


class Postgres:
    """A throw-away PostgreSQL cluster with its default settings. Removed at the end of a `with` block. Its log is written
    to `log`, a file that is open for writing, or nowhere."""

    def __init__(self, log=None):
        folder = postgres_folder()
        # PostgreSQL refuses to run as root.
        user = "nobody" if os.geteuid() == 0 else None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="countersign-bench-postgres-"))
        if user:
            shutil.chown(self.folder, user)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        options = {
            "user": user,
            "extra_groups": [] if user else None,
            "cwd": self.folder,
            "env": clean_environment(),
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        data = self.folder / "data"
        create = [folder / "initdb", "-D", data, "-U", "countersign", "-A", "trust", "--no-sync"]
        subprocess.run(create, check=True, **options)
        listen = ["-p", str(self.port), "-k", self.folder, "-c", "listen_addresses=127.0.0.1"]
        logged = options | {"stderr": log or subprocess.DEVNULL}
        self.process = subprocess.Popen([folder / "postgres", "-D", data, *listen], **logged)
        self.databases = 0
        self.createdb = [folder / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "countersign"]
        self.options = options

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # SIGINT is a fast shutdown, which does not wait for clients.
        self.process.send_signal(2)
        self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self):
        """Creates a database and returns its URL. Waits until PostgreSQL accepts connections."""
        self.databases += 1
        name = f"bench_{self.databases}"
        for _ in range(600):
            if subprocess.run([*self.createdb, name], **self.options).returncode == 0:
                return f"postgres://countersign@127.0.0.1:{self.port}/{name}"
            time.sleep(0.1)
        sys.exit("PostgreSQL did not start")


def measure_sync_us():
    """Returns the median time of a write of 4 KiB that the disk of the temporary folder acknowledges, in µs."""
    times = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(200):
            began = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] * 1e6


def describe_machine():
    """Returns facts about this machine that influence the figures."""
    cpus = [line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = pathlib.Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpu": cpus[0].split(":")[1].strip() if cpus else os.uname().machine,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory) / 1024**2),
        "kernel": os.uname().release,
        "sync_us": round(measure_sync_us()),
        "rustc": subprocess.run(["rustc", "--version"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip(),
    }
