"""Sends one-time codes through a real SMS gateway, Kannel, to the operator that Kannel simulates for its own tests."""

import re
import secrets
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from servers import expect, find_tool, free_ports, recipe, require, table_cell, wait_for, write

# Characters with a meaning in URLs must survive the way through a file, the database and a query.
PASSWORD = f"p@ss&w+rd%2B/?#={secrets.token_hex(4)}"
ADMIN_PASSWORD = secrets.token_hex(8)

CONFIGURATION = """
group = core
admin-port = {admin_port}
admin-interface = 127.0.0.1
admin-password = {admin_password}
smsbox-port = {box_port}
smsbox-interface = 127.0.0.1
box-deny-ip = "*.*.*.*"
box-allow-ip = 127.0.0.1

group = smsc
smsc = fake
smsc-id = operator
our-host = 127.0.0.1
host = 127.0.0.1
port = {operator_port}
connect-allow-ip = 127.0.0.1

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {port}
sendsms-interface = 127.0.0.1

group = sendsms-user
username = owl
password = "{password}"
default-sender = OwlBank
max-messages = 3
concatenation = true
"""


def require_tools():
    find_tool("bearerbox", "kannel")
    find_tool("smsbox", "kannel")
    find_tool("fakesmsc", "kannel-extras")


class Kannel:
    """Kannel with a user `owl`, and a simulated operator that logs what it receives."""

    def __init__(self, processes):
        self.processes = processes
        self.port, self.admin_port, self.box_port, self.operator_port = free_ports(4)
        self.configuration = write(processes.make_folder("kannel") / "kannel.conf", CONFIGURATION.format(
            port=self.port, admin_port=self.admin_port, box_port=self.box_port, operator_port=self.operator_port,
            password=PASSWORD, admin_password=ADMIN_PASSWORD,
        ), 0o600)

    def start(self):
        self.start_box("bearerbox")
        self.wait_for_status("bearerbox", "operator")
        command = [find_tool("fakesmsc", "kannel-extras"), "-H", "127.0.0.1", "-r", self.operator_port]
        # It reads messages to send from standard input, and ends when that does.
        self.processes.start("fakesmsc", [*command, "-m", "-1"], stdin=subprocess.PIPE)
        self.wait_for_status("fakesmsc", r"operator\b.*\(online ")
        self.start_box("smsbox")
        self.wait_for_status("smsbox", r"smsbox:.*\(on-line ")

    def start_box(self, name):
        self.processes.start(name, [find_tool(name, "kannel"), "-v", "1", self.configuration])

    def wait_for_status(self, name, pattern):
        """Waits until Kannel's status page matches."""
        url = f"http://127.0.0.1:{self.admin_port}/status.txt?password={ADMIN_PASSWORD}"

        def matches():
            self.processes.require_running(name)
            try:
                with urllib.request.urlopen(url, timeout=5) as response:
                    return re.search(pattern, response.read().decode())
            except (urllib.error.URLError, OSError):
                return False

        wait_for(f"start of {name}", matches)

    def receive(self, recipient):
        """Returns the text to a recipient that the operator received, joined from its parts."""
        def arrived():
            self.processes.require_running("fakesmsc")
            log = self.processes.log("fakesmsc").read_text(errors="replace")
            found = re.findall(rf"Got message \d+: <(\S+) {re.escape(recipient)} (.*)>$", log, re.MULTILINE)
            texts = [text(rest) for _, rest in found]
            parts = {number: part for number, _, part in texts}
            # Complete with as many parts as the first one announces.
            return found and len(texts) >= texts[0][1] and ({sender for sender, _ in found}, texts, parts)

        senders, texts, parts = wait_for(f"text message to {recipient}", arrived)
        expect(f"number of messages to {recipient}", len(texts), texts[0][1])
        expect("sender", senders, {"OwlBank"})
        return "".join(part for _, part in sorted(parts.items()))


def text(message):
    """Returns number, count and text of a part, out of a line of fakesmsc.

    A line has a type and a text. It is URL-encoded if it is not `text`, which is for the alphabet GSM 03.38.
    """
    kind, _, content = message.partition(" ")
    number, count = 1, 1
    if kind == "udh":
        header, kind, content = content.split(" ")
        # 05 00 03: the header of concatenated messages, then a reference, the count and the number.
        header = urllib.parse.unquote_to_bytes(header)
        expect("header of a part", header[:3], b"\x05\x00\x03")
        count, number = header[4:6]
        expect("type of a part", kind, "data")
        kind = "ucs-2"
    if kind == "text":
        return number, count, content
    expect("type of a message", kind, "ucs-2")
    return number, count, urllib.parse.unquote_to_bytes(content.replace("+", " ")).decode("utf-16-be")


def create_outlet(countersign, processes, kannel):
    """Creates the documented outlet, and returns its SID."""
    write(processes.folder / "password", PASSWORD, 0o600)
    arguments = recipe("Kannel", {"http://kannel:13013": f"http://127.0.0.1:{kannel.port}"})
    url = arguments.index("--url") + 1
    arguments[url] += table_cell("Delivery reports", "Kannel")
    return countersign.create_outlet(arguments)


def code_in(received, pattern):
    """Returns the code in a text of which the pattern is the whole."""
    found = re.fullmatch(pattern, received)
    require("text of the message", found, f"{received!r} is not {pattern!r}")
    return found[1]


def run(countersign, processes, prove):
    kannel = Kannel(processes)
    kannel.start()
    [port] = free_ports(1)
    countersign.start("--public-url", f"http://127.0.0.1:{port}", port=port)
    outlet = create_outlet(countersign, processes, kannel)

    output = countersign.command("outlet", "test", outlet, "--to", "+4366412345678")
    require("outlet test", output.startswith("accepted"), output)
    require("test message", "123456" in kannel.receive("+4366412345678"))
    prove("outlet test sends a text with the documented command")

    service = countersign.create_service()

    def verify(number, pattern, service=service, **form):
        countersign.send_code(service, To=number, Channel="sms", **form)
        code = code_in(kannel.receive(number), pattern)
        paid = {name: form[name] for name in ["Amount", "Payee"] if name in form}
        countersign.approve(service, To=number, Code=code, **paid)

    verify("+4366412345679", r"Owl Bank: (\d{6}) ist Ihr Code\.")
    prove("operator receives number and text, and the code approves the verification")

    def status(number):
        _, attempts = countersign.request("GET", f"/v2/Attempts?ChannelData.To={urllib.parse.quote(number)}")
        return attempts["attempts"][0]["channel_data"]["message_status"]

    wait_for("delivery report", lambda: status("+4366412345679") == "delivered")
    prove("report of Kannel marks the message as delivered")

    verify("+48512345678", r"Owl Bank: (\d{6}) to Twój kod\.")
    prove("letters beyond GSM 03.38 arrive unchanged")

    payments = countersign.create_service(Psd2Enabled="true")
    payment = r"Owl Bank: (\d{6}) to Twój kod do płatności\. Kwota: 99,90 €, odbiorca: Żółty Zajączek\."
    verify("+48512345679", payment, payments, Amount="99,90 €", Payee="Żółty Zajączek")
    prove("text of more than 70 characters arrives complete, in parts")

    write(processes.folder / "wrong", f"x{PASSWORD}", 0o600)
    countersign.command("outlet", "update", outlet, "--secret-file", "wrong")
    output = countersign.refusal("outlet", "test", outlet, "--to", "+4366412345678")
    refused = "30008" in output and "Authorization failed" in output and PASSWORD not in output
    require("a wrong password", refused, output)
    prove("wrong password is reported with the words of Kannel, and not printed")
