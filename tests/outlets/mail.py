"""Sends one-time codes through a real mail server, Exim, into a mailbox."""

import email
import email.policy
import hashlib
import os
import pwd
import re
import secrets
import shutil
import smtplib
import subprocess

from servers import expect, find_tool, free_ports, recipe, require, wait_for, write
from suites import Failed

USER = "codes@example.com"
# Every character of it must survive the way through a file, the database and SMTP.
PASSWORD = f"p@ss w%rd:/?#&+é{secrets.token_hex(4)}"

CONFIGURATION = """
exim_user = {user}
exim_group = {group}
primary_hostname = mail.example.com
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {starttls_port} : {tls_port}
tls_on_connect_ports = {tls_port}
tls_advertise_hosts = *
tls_certificate = {folder}/server.pem
tls_privatekey = {folder}/server.key
# Passwords are accepted with TLS only.
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = check_recipient
acl_smtp_data = check_mail
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
never_users =
disable_ipv6

begin acl
check_recipient:
  deny !authenticated = *
       message = authentication required
  deny !domains = example.com
       message = no such domain
  accept
check_mail:
  defer condition = ${{if exists{{{folder}/busy}}}}
        message = busy, try again later
        log_message = busy for $header_message-id:
  accept

begin routers
mailbox:
  driver = accept
  transport = mailbox

begin transports
mailbox:
  driver = appendfile
  directory = {folder}/mailbox
  maildir_format
  user = {user}

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{login}}}}}{{eq{{${{sha256:$auth3}}}}{{{digest}}}}}}}}}
  server_set_id = $auth2
"""

OPENSSL = """
[req]
distinguished_name = name
prompt = no
[name]
CN = localhost
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost
"""


def require_tools():
    find_tool("openssl", "openssl")
    find_tool("exim4", "exim4-daemon-light")


class Exim:
    """A mail server that accepts mail to example.com from a user with a password.

    One of its ports has TLS from the beginning, the other one has STARTTLS.
    """

    def __init__(self, processes):
        self.processes = processes
        self.folder = processes.make_folder("exim")
        self.authority = self.folder / "ca.pem"
        self.starttls_port, self.tls_port = free_ports(2)
        # Exim refuses to deliver mail as root.
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        digest = hashlib.sha256(PASSWORD.encode()).hexdigest().upper()
        self.configuration = write(self.folder / "exim.conf", CONFIGURATION.format(
            folder=self.folder, user=user.pw_name, group=user.pw_gid, login=USER,
            starttls_port=self.starttls_port, tls_port=self.tls_port, digest=digest,
        ))
        self.make_certificate()
        if os.geteuid() == 0:
            for path in [self.folder, self.folder / "server.key", self.folder / "server.pem"]:
                shutil.chown(path, user.pw_uid, user.pw_gid)

    def make_certificate(self):
        """Creates an authority, and a certificate for `localhost` that it signs."""
        write(self.folder / "openssl.cnf", OPENSSL)
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-config", "openssl.cnf"]
        for command in [
            ["req", "-x509", *new_key, "-extensions", "authority", "-days", "2", "-subj", "/CN=Countersign tests"]
            + ["-keyout", "ca.key", "-out", "ca.pem"],
            ["req", "-new", *new_key, "-keyout", "server.key", "-out", "server.csr"],
            ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
            + ["-extfile", "openssl.cnf", "-extensions", "server", "-out", "server.pem"],
        ]:
            done = subprocess.run(["openssl", *command], cwd=self.folder, capture_output=True, text=True)
            if done.returncode != 0:
                raise Failed(f"openssl {command[0]}: {done.stderr}")

    def start(self):
        self.processes.start("exim", [find_tool("exim4", "exim4-daemon-light"), "-C", self.configuration, "-bdf"])

        def accepts():
            self.processes.require_running("exim")
            try:
                with smtplib.SMTP("127.0.0.1", self.starttls_port, timeout=5) as connection:
                    return connection.noop()[0] == 250
            except (OSError, smtplib.SMTPException):
                return False

        wait_for("start of exim", accepts)

    def log(self):
        """Returns Exim's log, which is its output if it does not run as root."""
        logs = [self.processes.log("exim"), self.folder / "mainlog"]
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    def receive(self, recipient):
        """Returns the mail to a recipient, and fails if there are several."""
        def arrived():
            self.processes.require_running("exim")
            mails = [
                email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
                for file in (self.folder / "mailbox" / "new").glob("*")
            ]
            return [mail for mail in mails if mail["To"] == recipient]

        mails = wait_for(f"mail to {recipient}", arrived)
        expect(f"number of mails to {recipient}", len(mails), 1)
        return mails[0]


def check_mail(mail, subject, sentence):
    """Checks the headers and parts of a mail, and returns the code in its text.

    The text part must begin with a line that the pattern `sentence` describes.
    """
    expect("From", mail["From"], "Owl Bank <codes@example.com>")
    expect("Subject", mail["Subject"], subject)
    expect("Auto-Submitted", mail["Auto-Submitted"], "auto-generated")
    expect("MIME-Version", mail["MIME-Version"], "1.0")
    for name in ["From", "To", "Subject", "Date", "Message-ID", "Content-Type"]:
        expect(f"number of headers {name}", len(mail.get_all(name, [])), 1)
    require("Date", mail["Date"].datetime is not None, mail["Date"])
    require("Message-ID", re.fullmatch(r"<VL[0-9a-f]{32}@example\.com>", mail["Message-ID"]), mail["Message-ID"])
    # Exim's own word for a connection with TLS and a user.
    require("Received", " with esmtpsa " in " ".join(mail["Received"].split()), mail["Received"])
    expect("type of the mail", mail.get_content_type(), "multipart/alternative")
    parts = list(mail.iter_parts())
    expect("types of the parts", [part.get_content_type() for part in parts], ["text/plain", "text/html"])
    text, html = [part.get_content() for part in parts]
    found = re.match(rf"{sentence}\n", text)
    require("text part", found, text)
    require("HTML part", found[1] in html, html)
    expect("defects of the mail", [part.defects for part in mail.walk() if part.defects], [])
    return found[1]


def run(countersign, processes, prove):
    exim = Exim(processes)
    exim.start()
    countersign.start("--outlet-ca", exim.authority)
    service = countersign.create_service()
    write(processes.folder / "password", PASSWORD, 0o600)
    outlet = countersign.create_outlet(recipe("A mail server", {
        "smtps://mail.example.com:465": f"smtps://localhost:{exim.tls_port}",
    }))
    trusting = ["--outlet-ca", str(exim.authority)]

    output = countersign.command("outlet", "test", outlet, "--to", "test@example.com", *trusting)
    require("outlet test", output.startswith("accepted"), output)
    exim.receive("test@example.com")
    prove("outlet test delivers a mail with the documented command")

    def verify(recipient, subject, sentence, service=service, **form):
        countersign.send_code(service, To=recipient, Channel="email", **form)
        code = check_mail(exim.receive(recipient), subject, sentence)
        countersign.approve(service, To=recipient, Code=code)

    verify("ann@example.com", "Your code for Owl Bank", r"Owl Bank: (\d{6}) is your code\.")
    prove("code sent with TLS from the beginning is in text and HTML, and approves the verification")

    countersign.command("outlet", "update", outlet, "--url", f"smtp://localhost:{exim.starttls_port}")
    other = countersign.create_service("Żółta Sowa")
    verify("zoe@example.com", "Your code for Żółta Sowa", r"Żółta Sowa: (\d{6}) is your code\.", other)
    verify("zofia@example.com", "Twój kod Owl Bank", r"Owl Bank: (\d{6}) to Twój kod\.", Locale="pl")
    prove("code sent with STARTTLS, and letters beyond ASCII in subject and parts, approves the verification")

    def verify_later(recipient, event, repair):
        """Verifies an address and returns the mail. No mail can be sent until `repair` is called, after one attempt."""
        failed = countersign.failed_attempts()
        countersign.send_code(service, To=recipient, Channel="email")
        wait_for(event, lambda: countersign.failed_attempts() > failed)
        repair()
        mail = exim.receive(recipient)
        code = check_mail(mail, "Your code for Owl Bank", r"Owl Bank: (\d{6}) is your code\.")
        countersign.approve(service, To=recipient, Code=code)
        return mail

    busy = write(exim.folder / "busy", "")
    mail = verify_later("ben@example.com", "a deferred mail", busy.unlink)
    deferred = re.findall(r"temporarily rejected after DATA: busy for (\S+)$", exim.log(), re.MULTILINE)
    expect("Message-ID of each attempt", {*deferred, mail["Message-ID"]}, {mail["Message-ID"]})
    require("a deferred mail in Exim's log", deferred, exim.log())
    prove("mail that the server defers is sent again, with the same Message-ID")

    processes.stop("exim")
    verify_later("eve@example.com", "a server that is down", exim.start)
    prove("mail to a server that is down is sent when it is back")

    output = countersign.refusal("outlet", "test", outlet, "--to", "test@example.com")
    require("an unknown authority", "60603" in output and "UnknownIssuer" in output, output)
    prove("server whose certificate authority is not in --outlet-ca gets nothing")

    output = countersign.refusal("outlet", "test", outlet, "--to", "ann@other.example", *trusting)
    require("a refused recipient", "60603" in output and "no such domain" in output, output)
    prove("refusal of a recipient is reported with the words of the server")

    write(processes.folder / "wrong", f"x{PASSWORD}", 0o600)
    countersign.command("outlet", "update", outlet, "--secret-file", "wrong")
    output = countersign.refusal("outlet", "test", outlet, "--to", "test@example.com", *trusting)
    require("a wrong password", "60604" in output and "535" in output and PASSWORD not in output, output)
    prove("wrong password is reported as such, and not printed")
