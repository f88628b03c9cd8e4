"""Checks that deploy/ and the documentation name only what the binary has: names.py BINARY COMPOSE.json KUBERNETES.yaml COMPOSE_TEST.json

Commands, flags, variables and keys are looked up in the help texts; a started server gets the requests of the probes.
Also checks the links of the documentation.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
OPERATIONS = ROOT / "docs/operations.md"
# The environment of the test run must not matter.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}

mistakes = []


def mistake(where, what):
    mistakes.append(f"{where}: {what}")


class Binary:
    """The commands and flags in the help texts."""

    def __init__(self, path):
        self.path = path
        self.helps = {}
        self.walk(())
        # Join the broken lines.
        everything = " ".join(" ".join(self.helps.values()).split())
        self.variables = set(re.findall(r"\[env: (COUNTERSIGN_[A-Z0-9_]+)", everything))

    def walk(self, command):
        output = subprocess.run([self.path, *command, "--help"], capture_output=True, text=True, check=True, env=CLEAN)
        self.helps[command] = output.stdout
        listed = re.search(r"^Commands:\n((?: {2,}\S.*\n|\n)+)", output.stdout, re.MULTILINE)
        for name in re.findall(r"^  ([a-z][a-z-]*)(?:  |$)", listed[1], re.MULTILINE) if listed else []:
            if name != "help":
                self.walk((*command, name))

    def check(self, where, arguments):
        """Checks that a command line names a command, and only flags that it has."""
        command, rest = (), list(arguments)
        while rest and (*command, rest[0]) in self.helps:
            command = (*command, rest.pop(0))
        if not command and not rest[:1] == ["help"] and not rest[:1] == ["--version"]:
            mistake(where, f"countersign has no command {' '.join(arguments)!r}")
            return
        takes_more = "Commands:" in self.helps[command]
        if takes_more and rest and not rest[0].startswith("-"):
            mistake(where, f"countersign {' '.join(command)} has no command {rest[0]!r}")
        for word in rest:
            flag = re.match(r"--[a-z][a-z0-9-]*", word)
            if flag and not re.search(rf"{flag[0]}(?![a-z0-9-])", self.helps[command]):
                mistake(where, f"countersign {' '.join(command)} has no {flag[0]}")


def words(value):
    return shlex.split(value) if isinstance(value, str) else [str(word) for word in value]


def containers(documents):
    for document in documents:
        template = document.get("spec", {}).get("template", {})
        for container in template.get("spec", {}).get("containers", []):
            yield document, container


def command_lines(compose, documents):
    """Returns every command line with which deploy/ and the documentation call the binary."""
    for document, container in containers(documents):
        yield f"kubernetes, {document['kind']}", container.get("command", [])[1:] + container["args"]
    for name, service in compose["services"].items():
        if not service["image"].startswith("countersign:"):
            continue
        if service.get("command"):
            yield f"compose.yaml, {name}", words(service["command"])
        test = service.get("healthcheck", {}).get("test")
        if test:
            yield f"compose.yaml, health of {name}", test[2:]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^\s*(?:HEALTHCHECK.*)?CMD (\[.*\])", dockerfile, re.MULTILINE):
        arguments = json.loads(line)
        yield "Dockerfile", arguments[1:] if arguments[0].endswith("/countersign") else arguments
    unit = (DEPLOY / "countersign.service").read_text()
    for line in re.findall(r"^Exec\w+=\S*/countersign (.*)", unit, re.MULTILINE):
        yield "countersign.service", words(line)
    if OPERATIONS.exists():
        for block in re.findall(r"^```sh\n(.*?)^```", OPERATIONS.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.search(r"(?:^\s*|/usr/local/bin/)countersign ([a-z].*)|countersign:[0-9.]+ ([a-z].*)", line)
                if found:
                    yield "operations.md", re.split(r"[|>;#)&]", found[1] or found[2])[0].split()
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for line in re.findall(r"`countersign ((?!listening )[a-z][^`]*)`", page.read_text()):
            yield page.name, re.split(r"[|>;#)&]", line)[0].split()


def files():
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file() and "secrets" not in path.parts and path.suffix != ".json":
            yield path
    if OPERATIONS.exists():
        yield OPERATIONS


def check_variables(binary):
    for path in files():
        for name in sorted(set(re.findall(r"COUNTERSIGN_[A-Z0-9_]*[A-Z0-9]", path.read_text()))):
            if name not in binary.variables:
                mistake(path.relative_to(ROOT), f"{name} is no variable of countersign's")


def check_keys(binary):
    for path in sorted(DEPLOY.rglob("*.toml")):
        for key in tomllib.loads(path.read_text()):
            if f"COUNTERSIGN_{key.upper()}" not in binary.variables:
                mistake(path.relative_to(ROOT), f"{key} is no option of countersign's")
        checked = subprocess.run(
            [binary.path, "config", "check", "--config", path], capture_output=True, text=True, env=CLEAN
        )
        if checked.returncode != 0:
            mistake(path.relative_to(ROOT), checked.stderr.strip())


def check_ports(documents):
    """Checks that ports are named where they are used, and are those on which the servers listen."""
    options = tomllib.loads((DEPLOY / "kubernetes/countersign.toml").read_text())
    listened = {int(options[key].rpartition(":")[2]) for key in ("listen", "metrics_listen") if key in options}
    declared = {}
    for document, container in containers(documents):
        for port in container.get("ports", []):
            declared[port["name"]] = port["containerPort"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container and container[probe]["httpGet"]["port"] not in declared:
                mistake(f"kubernetes, {probe}", "its port is not declared")
    if set(declared.values()) != listened:
        mistake("kubernetes", f"ports {declared} are declared, and {listened} listened on")
    for document in documents:
        if document["kind"] == "Service":
            for port in document["spec"]["ports"]:
                if port["targetPort"] != "http":
                    mistake("kubernetes, Service", f"{port['targetPort']} is not for the public")
        if document["kind"] in ("PodMonitor", "ServiceMonitor"):
            for endpoint in document["spec"].get("podMetricsEndpoints", document["spec"].get("endpoints", [])):
                if endpoint["port"] not in declared:
                    mistake("kubernetes", f"{document['kind']} names port {endpoint['port']}, which is not declared")
        if document["kind"] == "NetworkPolicy":
            opened = {port["port"] for rule in document["spec"].get("ingress", []) for port in rule["ports"]}
            if not opened <= listened:
                mistake("kubernetes, NetworkPolicy", f"opens {opened}, of which only {listened} are listened on")


def check_probes(binary, documents):
    """Sends the requests of the probes to a server."""
    paths = {
        container[probe]["httpGet"]["path"]
        for _, container in containers(documents)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        if probe in container
    }
    paths |= set(re.findall(r"health_uri (\S+)", (DEPLOY / "Caddyfile").read_text()))
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [binary.path, "serve", "--ephemeral", "--listen", "127.0.0.1:0"],
            cwd=folder,
            env=CLEAN,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            address = server.stdout.readline().split()[-1]
            for path in sorted(paths):
                try:
                    urllib.request.urlopen(address + path, timeout=10).close()
                except urllib.error.HTTPError as error:
                    mistake("probes", f"{path} answers {error.code}")
            port = address.rpartition(":")[2]
            for arguments in (["health"], ["health", "--ready"]):
                health = [binary.path, *arguments, "--listen", f"0.0.0.0:{port}"]
                if subprocess.run(health, cwd=folder, env=CLEAN, capture_output=True).returncode != 0:
                    mistake("probes", f"countersign {' '.join(arguments)} does not find a server that is well")
        finally:
            server.terminate()
            server.wait(60)
        gone = [binary.path, "health", "--listen", f"127.0.0.1:{port}"]
        if subprocess.run(gone, cwd=folder, env=CLEAN, capture_output=True).returncode == 0:
            mistake("probes", "countersign health finds a server that has stopped")


def check_links():
    """Checks that the links of the documentation and the alerts lead to existing files and headings."""
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    alerts = DEPLOY / "alerts.yaml"
    if alerts.exists():
        links += [(ROOT / "alerts.yaml", link) for link in re.findall(r"runbook: (\S+)", alerts.read_text())]
    for page, link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            mistake(page.name, f"{link} leads nowhere")
        elif anchor:
            headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)
            # The anchors that GitHub and others derive from headings.
            if anchor not in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}:
                mistake(page.name, f"{link} leads to no heading")


def check_curl():
    """Checks that each `curl` of the README that should succeed reports a failure."""
    for line in (ROOT / "README.md").read_text().splitlines():
        if re.search(r"(^|\()curl ", line) and not re.search(r"curl (--fail-with-body -sS|-fsS)", line):
            mistake("README.md", f"this fails in silence: {line}")


def main():
    binary = Binary(os.path.abspath(sys.argv[1]))
    compose = json.loads(pathlib.Path(sys.argv[2]).read_text())
    documents = [document for document in yaml.safe_load_all(pathlib.Path(sys.argv[3]).read_text()) if document]
    # The names of its services differ, so that the lines of both are checked.
    compose["services"].update(json.loads(pathlib.Path(sys.argv[4]).read_text())["services"])
    lines = list(command_lines(compose, documents))
    for where, arguments in lines:
        binary.check(where, arguments)
    check_links()
    check_curl()
    check_variables(binary)
    check_keys(binary)
    check_ports(documents)
    check_probes(binary, documents)
    if mistakes:
        sys.exit("\n".join(mistakes))
    print(f"{len(lines)} command lines, {len(binary.variables)} variables, {len(binary.helps)} commands known")


main()
