"""Starts a server, creates resources on it, and runs Schemathesis against it, once with each document.

The environment has COUNTERSIGN_TEST_BINARY, and COUNTERSIGN_TEST_SPECS if the official documents are
available. The only argument is a seed. The default is fixed, so that a new finding is due to a change.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from resources import Resources

HERE = Path(__file__).parent
OFFICIAL = ["twilio_verify_v2.json", "twilio_notify_v1.json", "twilio_monitor_v1.json"]
OFFICIAL += ["twilio_iam_v1.json", "twilio_api_v2010.json"]
METHODS = ["get", "post", "delete"]
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
# Generated examples for each operation, besides those that its schemas require.
EXAMPLES = 20
RELATIVE_LINKS = {"uri", "first_page_uri", "next_page_uri", "previous_page_uri"}


def environment(**more):
    """Returns the environment without variables that would configure the server or redirect requests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COUNTERSIGN_") and not name.upper().endswith("_PROXY")
    }
    return kept | more


class Server:
    """A server on a SQLite database in this folder, stopped at the end of the block."""

    def __init__(self, folder):
        self.user, self.password = "AC" + secrets.token_hex(16), secrets.token_hex(16)
        command = [os.environ["COUNTERSIGN_TEST_BINARY"], "serve", "--listen", "127.0.0.1:0"]
        command += ["--data-dir", str(folder / "data"), "--log", "error,actix_http=off"]
        # No program listens at the port for discarded data, so no code leaves this machine.
        command += ["--sms-url", "http://127.0.0.1:9/"]
        variables = {"COUNTERSIGN_ACCOUNT_SID": self.user, "COUNTERSIGN_AUTH_TOKEN": self.password}
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen(
            command, env=environment(**variables), stdout=subprocess.PIPE, stderr=self.log, text=True
        )

    def __enter__(self):
        line = self.process.stdout.readline()
        if not line.startswith("countersign listening on "):
            self.__exit__()
            sys.exit(f"the server printed {line!r} instead of its address")
        self.url = line.split()[-1]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        # Every line in the server's log is a finding, or explains one.
        self.log.seek(0)
        sys.stderr.write(self.log.read())


def official(ours):
    """Returns one document with the served operations of the official ones; None if they are not available.

    They do not describe errors, so those come from our document.
    """
    folder = os.environ.get("COUNTERSIGN_TEST_SPECS")
    if folder is None:
        wanted = ", ".join(OFFICIAL)
        print(f"SKIPPED the official documents: COUNTERSIGN_TEST_SPECS names no folder with {wanted}")
        return None
    shape = lambda path: re.sub("{[^}]*}", "{}", path.removesuffix(".json"))
    served = {
        (shape(path), method): operation
        for path, operations in ours["paths"].items()
        for method, operation in operations.items()
    }
    paths, components = {}, {"schemas": {"error": ours["components"]["schemas"]["error"]}, "securitySchemes": {}}
    for name in OFFICIAL:
        document = json.loads((Path(folder) / name).read_text())
        for kind in components:
            components[kind] |= document["components"].get(kind, {})
        for path, item in document["paths"].items():
            operations = {
                method: item[method] for method in METHODS if method in item and (shape(path), method) in served
            }
            for method, operation in operations.items():
                for status in served[shape(path), method]["responses"]:
                    content = {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}}
                    if status >= "400":
                        operation["responses"][status] = {"description": "An error", "content": content}
            if operations:
                paths[path] = operations
    # Actors here are not users of a console ("Who changes something" in openapi/differences.json).
    del components["schemas"]["monitor.v1.event"]["properties"]["actor_sid"]["pattern"]
    # The links of lists in the API version 2010-04-01 are relative, at Twilio too, although the document has absolute ones.
    for operations in paths.values():
        for response in operations.get("get", {}).get("responses", {}).values():
            members = response.get("content", {}).get("application/json", {}).get("schema", {}).get("properties", {})
            for name in RELATIVE_LINKS & members.keys():
                members[name].pop("format", None)
    return {"openapi": "3.0.3", "info": {"title": "Official", "version": "1"}, "paths": paths, "components": components}


def examine(name, document, location, server, folder, seed):
    """Runs Schemathesis with one document on new resources, and returns whether it found nothing."""
    print(f"\n== {name}", flush=True)
    resources = Resources(server.url, server.user, server.password)
    resources.create_all()
    (folder / "resources.json").write_text(json.dumps(resources.seen))
    seen = folder / f"{name}.statuses"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")]
    command += ["run", str(location), "--url", server.url]
    command += ["--auth", f"{server.user}:{server.password}", "--checks", ",".join(CHECKS), "--continue-on-failure"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)]
    command += ["--seed", seed, "--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off"]
    variables = {
        "PYTHONPATH": str(HERE),
        "SCHEMATHESIS_HOOKS": "hooks",
        "RESOURCES_FILE": str(folder / "resources.json"),
        "SERVER_URL": server.url,
        "SERVER_USER": server.user,
        "SERVER_PASSWORD": server.password,
        "STATUSES": str(seen),
    }
    is_clean = subprocess.run(command, env=environment(**variables), cwd=folder).returncode == 0
    return every_operation_worked(document, seen) and is_clean


def every_operation_worked(document, seen):
    """Prints the statuses of each operation. One that never succeeded was not really tested."""
    counts = {f"{method.upper()} {path}": {} for path, item in document["paths"].items() for method in item}
    for line in seen.read_text().splitlines():
        operation, status = line.rsplit(" ", 1)
        counts[operation][status] = counts[operation].get(status, 0) + 1
    for operation, statuses in sorted(counts.items()):
        print(operation, *(f"{status}×{count}" for status, count in sorted(statuses.items())))
    succeeded = lambda statuses: any(status < "300" for status in statuses)
    failed = [operation for operation, statuses in counts.items() if not succeeded(statuses)]
    for operation in failed:
        print(f"NEVER SUCCEEDED {operation}")
    return not failed


def main():
    seed = sys.argv[1] if len(sys.argv) > 1 else "1"
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        folder = Path(folder)
        ours = Resources(server.url, server.user, server.password).request("GET", "/openapi.json")
        # A stream does not end.
        ours["paths"] = {path: item for path, item in ours["paths"].items() if not path.startswith("/countersign/")}
        documents = {"ours": ours, "official": official(ours)}
        is_clean = True
        for name, document in documents.items():
            if document is not None:
                # From a file, because Schemathesis excludes the operation from which a document is loaded.
                location = folder / f"{name}.json"
                location.write_text(json.dumps(document))
                is_clean &= examine(name, document, location, server, folder, seed)
        is_clean &= server.process.poll() is None
    print("\nnothing found" if is_clean else "\nsomething was found")
    sys.exit(0 if is_clean else 1)


main()
