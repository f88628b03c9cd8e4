"""Sends one-time codes through a real SMS gateway, Jasmin, with its message broker and its database."""

import re
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from servers import expect, find_tool, free_ports, recipe, require, wait_for, write
from suites import TARGET, Failed

REQUIREMENTS = Path(__file__).resolve().with_name("requirements.txt")
PYTHON_FOLDER = TARGET / "outlets" / "jasmin"
# Jasmin permits at most 16 characters.
PASSWORD = f"p@s&w+%2B#={secrets.token_hex(2)}"

CONFIGURATION = """
[amqp-broker]
host = 127.0.0.1
port = {broker_port}
spec = {specification}

[redis-client]
host = 127.0.0.1
port = {redis_port}

[router]
bind = 127.0.0.1
port = {router_port}

[client-management]
bind = 127.0.0.1
port = {clients_port}

[smpp-server]
bind = 127.0.0.1
port = {smpp_port}

[jcli]
bind = 127.0.0.1
port = {console_port}
authentication = False

[http-api]
bind = 127.0.0.1
port = {port}
"""

# Commands of Jasmin's console: a connection to the operator, a user, and the route from one to the other.
SETUP = """
smppccm -a
cid operator
host 127.0.0.1
port {operator_port}
bind transceiver
ok
smppccm -1 operator
group -a
gid users
ok
user -a
uid owl
username owl
password {password}
gid users
ok
mtrouter -a
type DefaultRoute
connector smppc(operator)
rate 0
ok
"""

# Not the program in the PATH, which changes to a user of its own.
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"

# Commands of SMPP 3.4 (section 5.1.2.1), and the fields of a message (section 4.4.1).
BIND_TRANSCEIVER, SUBMIT, RESPONSE = 0x09, 0x04, 0x80000000
MESSAGE = re.compile(rb"\0..OwlBank\0..(?P<recipient>\+\d+)\0.{3}\0\0.{5}(?P<text>.*)", re.DOTALL)


def require_tools():
    find_tool(RABBITMQ, "rabbitmq-server")
    find_tool("epmd", "erlang-base")
    find_tool("redis-server", "redis-server")


class Operator:
    """An operator that accepts every message by SMPP, and keeps the messages."""

    def __init__(self):
        self.messages = []
        self.is_bound = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        connection, _ = self.listener.accept()
        stream = connection.makefile("rb")
        while header := stream.read(16):
            length, command, _, sequence = struct.unpack(">IIII", header)
            body = stream.read(length - 16)
            # The name of the operator, or the ID of the message; other responses are empty.
            content = b"1\0" if command in (BIND_TRANSCEIVER, SUBMIT) else b""
            response = struct.pack(">IIII", 16 + len(content), command | RESPONSE, 0, sequence)
            connection.sendall(response + content)
            if command == BIND_TRANSCEIVER:
                self.is_bound = True
            elif command == SUBMIT:
                self.messages.append(body)

    def receive(self, recipient):
        """Returns the bytes of the text to a recipient."""
        def arrived():
            messages = [MESSAGE.fullmatch(message) for message in self.messages]
            return [message["text"] for message in messages if message and message["recipient"].decode() == recipient]

        texts = wait_for(f"text message to {recipient}", arrived)
        expect(f"number of messages to {recipient}", len(texts), 1)
        return texts[0]


class Jasmin:
    """Jasmin with a user `owl`, and a connection to an operator."""

    def __init__(self, processes, operator):
        self.processes = processes
        self.operator = operator
        self.folder = processes.make_folder("jasmin")
        self.ports = dict(zip(
            ["port", "broker_port", "erlang_port", "epmd_port", "redis_port"]
            + ["router_port", "clients_port", "smpp_port", "console_port"],
            free_ports(9),
        ))
        self.port = self.ports["port"]

    def install(self):
        """Installs Jasmin in a folder that is kept."""
        installed = PYTHON_FOLDER / "requirements.txt"
        if not installed.exists() or installed.read_text() != REQUIREMENTS.read_text():
            shutil.rmtree(PYTHON_FOLDER, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", PYTHON_FOLDER], check=True)
            pip = [PYTHON_FOLDER / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            subprocess.run([*pip, "-r", REQUIREMENTS], check=True)
            shutil.copy(REQUIREMENTS, installed)
        return PYTHON_FOLDER / "bin"

    def start(self):
        programs = self.install()
        self.start_broker()
        redis = ["--port", self.ports["redis_port"], "--bind", "127.0.0.1", "--save", "", "--dir", self.folder]
        self.processes.start("redis", [find_tool("redis-server", "redis-server"), *redis])
        self.wait_for_port("redis", "redis_port")

        (self.folder / "var/log/jasmin").mkdir(parents=True)
        (self.folder / "etc/jasmin/store").mkdir(parents=True)
        [specification] = PYTHON_FOLDER.glob("lib/*/site-packages/txamqp/specs/standard/amqp0-9-1.stripped.xml")
        text = CONFIGURATION.format(specification=specification, **self.ports)
        configuration = write(self.folder / "jasmin.cfg", text, 0o600)
        command = [programs / "python", programs / "jasmind.py", "-c", configuration]
        self.processes.start("jasmin", command, environment={"ROOT_PATH": str(self.folder)})
        self.wait_for_port("jasmin", "console_port")
        self.set_up()
        wait_for("connection to the operator", lambda: self.operator.is_bound)

    def start_broker(self):
        """Starts RabbitMQ, and Erlang's port mapper, which RabbitMQ would start as a daemon."""
        folder, epmd_port = self.folder, self.ports["epmd_port"]
        epmd = [find_tool("epmd", "erlang-base"), "-port", epmd_port, "-address", "127.0.0.1"]
        self.processes.start("epmd", epmd)
        self.wait_for_port("epmd", "epmd_port")
        configuration = write(folder / "rabbitmq.conf", f"listeners.tcp.1 = 127.0.0.1:{self.ports['broker_port']}\n")
        self.processes.start("rabbitmq", [find_tool(RABBITMQ, "rabbitmq-server")], environment={
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": "countersign@localhost",
            "RABBITMQ_DIST_PORT": str(self.ports["erlang_port"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "rabbitmq.pid"),
        })
        self.wait_for_port("rabbitmq", "broker_port")

    def wait_for_port(self, name, port):
        def accepts():
            self.processes.require_running(name)
            try:
                socket.create_connection(("127.0.0.1", self.ports[port]), 5).close()
                return True
            except OSError:
                return False

        wait_for(f"start of {name}", accepts)

    def set_up(self):
        """Adds connection, user and route with Jasmin's console."""
        with socket.create_connection(("127.0.0.1", self.ports["console_port"]), 5) as console:
            def read():
                """Returns what the console prints until it waits for the next line."""
                output = b""
                while not output.endswith((b"jcli : ", b"> ")):
                    output += console.recv(4096)
                return output.decode(errors="replace")

            for line in SETUP.format(operator_port=self.operator.port, password=PASSWORD).strip().splitlines():
                console.sendall(f"{line}\r\n".encode())
                output = read()
                if "Error" in output or "Unknown" in output:
                    raise Failed(f"Jasmin's console refused {line}: {output}")


def run(countersign, processes, prove):
    operator = Operator()
    jasmin = Jasmin(processes, operator)
    jasmin.start()
    countersign.start()
    write(processes.folder / "password", PASSWORD, 0o600)
    outlet = countersign.create_outlet(recipe("Jasmin", {"http://jasmin:1401": f"http://127.0.0.1:{jasmin.port}"}))

    output = countersign.command("outlet", "test", outlet, "--to", "+4366412345678")
    require("outlet test", output.startswith("accepted"), output)
    require("test message", b"123456" in operator.receive("+4366412345678"))
    prove("outlet test sends a text with the documented command")

    def verify(number, name, pattern):
        service = countersign.create_service(name)
        countersign.send_code(service, To=number, Channel="sms")
        text = operator.receive(number)
        found = re.fullmatch(pattern, text)
        require("text of the message", found, f"{text!r} is not {pattern!r}")
        countersign.approve(service, To=number, Code=found[1].decode())

    # In GSM 03.38, the tilde stands for ü, and the ampersand for itself.
    verify("+4366412345679", "Mühle & Co", rb"M~hle & Co: (\d{6}) ist Ihr Code\.")
    prove("operator receives number and text, and the code approves the verification")

    verify("+48512345678", "Owl Bank", rb"Owl Bank: (\d{6}) to Tw\?j kod\.")
    prove("letters beyond GSM 03.38 become question marks, as documented")

    write(processes.folder / "wrong", f"x{PASSWORD[1:]}", 0o600)
    countersign.command("outlet", "update", outlet, "--secret-file", "wrong")
    output = countersign.refusal("outlet", "test", outlet, "--to", "+4366412345678")
    refused = "30008" in output and "Authentication failure" in output and PASSWORD not in output
    require("a wrong password", refused, output)
    prove("wrong password is reported with the words of Jasmin, and not printed")
