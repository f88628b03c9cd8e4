"""Sends the requests of two programs that verify phone numbers with Twilio Verify, and reads the responses as they do.

Supabase Auth: internal/api/sms_provider/twilio_verify.go of https://github.com/supabase/auth
Zitadel: internal/notification/channels/twilio of https://github.com/zitadel/zitadel, with Twilio's library for Go
"""

import datetime
import json
import re

import kannel
from servers import expect, require, wait_for

# What Go's HTTP client adds to each request.
GO_HEADERS = {"Accept-Encoding": "gzip", "User-Agent": "Go-http-client/1.1"}
LIBRARY_HEADERS = {"Accept-Encoding": "gzip", "User-Agent": "twilio-go/1.31.0 (linux amd64) go/go1.26.0"}
MAX_CODES_PER_SERVICE_PER_HOUR = 8

TIME = "time"
ANY = "any"
# Fields and their types in the structures into which the programs decode JSON. The optional ones may be null or
# missing, because Twilio's responses do not contain the two of Supabase Auth at all.
ERROR = {"code": int, "message": str, "more_info": str, "status": int}
SUPABASE_CHECK = {"to": str, "status": str, "channel": str, "valid": bool}
SUPABASE_VERIFICATION = {**SUPABASE_CHECK, "sid": str}
SUPABASE_OPTIONAL = {"error_code": str, "error_message": str}
LIBRARY_CHECK = {
    "sid": str, "service_sid": str, "account_sid": str, "to": str, "channel": str, "status": str, "valid": bool,
    "date_created": TIME, "date_updated": TIME,
}
LIBRARY_VERIFICATION = {**LIBRARY_CHECK, "lookup": ANY, "send_code_attempts": list, "url": str}
LIBRARY_OPTIONAL = {"amount": str, "payee": str, "sna": ANY, "sna_attempts_error_codes": list, "details": dict}


def require_tools():
    kannel.require_tools()


def decode(what, resource, fields, optional):
    """Fails if Go could not decode a resource into a structure with these fields, or if a field is missing."""
    for name, kind in fields.items():
        require(f"field {name} of {what}", has_type(resource.get(name), kind), resource)
    for name, kind in optional.items():
        is_decodable = resource.get(name) is None or has_type(resource[name], kind)
        require(f"field {name} of {what}", is_decodable, resource)


def has_type(value, kind):
    if kind is ANY:
        return value is not None
    if kind is TIME:
        # Go decodes a time only in the form of RFC 3339.
        pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
        return isinstance(value, str) and re.fullmatch(pattern, value) and datetime.datetime.fromisoformat(value)
    # In Python, a boolean is also an integer.
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


class Program:
    """A program that sends requests as the source code of another one makes them."""

    def __init__(self, countersign, headers, optional):
        self.countersign = countersign
        self.service = countersign.create_service()
        self.headers = headers
        self.optional = optional

    def post(self, path, form, password=None):
        return self.countersign.request("POST", f"{self.service}/{path}", form, self.headers, password)

    def succeed(self, path, form, fields):
        """Sends a request that succeeds, and returns the resource."""
        status, resource = self.post(path, form)
        # Both programs take any other status as an error.
        require(f"POST {path}", status in (200, 201), f"{status} {resource}")
        decode(path, resource, fields, self.optional)
        return resource

    def fail(self, path, form, status, code, password=None):
        """Sends a request that fails with a status and an error code."""
        actual, error = self.post(path, form, password)
        decode(f"error of {path}", error, ERROR, self.optional)
        expect(f"error of {path}", (actual, error["status"], error["code"]), (status, status, code))


class Supabase(Program):
    """Supabase Auth, which stores numbers without a plus sign, and finds verifications by number."""

    def __init__(self, countersign):
        super().__init__(countersign, GO_HEADERS, SUPABASE_OPTIONAL)

    def send(self, phone, channel):
        form = {"To": f"+{phone}", "Channel": channel}
        sent = self.succeed("Verifications", form, SUPABASE_VERIFICATION)
        expect("verification", (sent["to"], sent["channel"]), (f"+{phone}", channel))

    def accepts(self, phone, code):
        """Returns whether the program lets the user sign in with the code."""
        form = {"To": f"+{phone}", "Code": code}
        checked = self.succeed("VerificationCheck", form, SUPABASE_CHECK)
        return checked["status"] == "approved" and checked["valid"]


class Zitadel(Program):
    """Zitadel, which finds verifications by their SID."""

    def __init__(self, countersign):
        super().__init__(countersign, LIBRARY_HEADERS, LIBRARY_OPTIONAL)

    def send(self, phone):
        """Sends a code, and returns the SID of the verification."""
        form = {"To": phone, "Channel": "sms"}
        sent = self.succeed("Verifications", form, LIBRARY_VERIFICATION)
        require("SID", re.fullmatch(r"VE[0-9a-f]{32}", sent["sid"]), sent)
        return sent["sid"]

    def check(self, sid, code):
        """Returns the status of the verification, by which the program decides."""
        form = {"VerificationSid": sid, "Code": code}
        return self.succeed("VerificationCheck", form, LIBRARY_CHECK)["status"]


def other_code(code):
    return f"{(int(code) + 1) % 1_000_000:06}"


def run(countersign, processes, prove):
    gateway = kannel.Kannel(processes)
    gateway.start()
    countersign.start("--max-codes-per-service-per-hour", MAX_CODES_PER_SERVICE_PER_HOUR)
    kannel.create_outlet(countersign, processes, gateway)
    captured = processes.folder / "captured"
    file = ["outlet", "create", "--kind", "capture", "--channel", "whatsapp", "--name", "File", "--path", str(captured)]
    countersign.create_outlet(file)

    def code_to(number):
        return kannel.code_in(gateway.receive(number), r"Owl Bank: (\d{6}) is your code\.")

    run_supabase(Supabase(countersign), captured, code_to, prove)
    run_zitadel(Zitadel(countersign), code_to, prove)


def run_supabase(supabase, captured, code_to, prove):
    phone = "447400123456"
    supabase.send(phone, "sms")
    code = code_to(f"+{phone}")
    require("a wrong code", not supabase.accepts(phone, other_code(code)))
    require("the right code", supabase.accepts(phone, code))
    prove("Supabase Auth sends a code by SMS, refuses a wrong one, and accepts the right one")

    supabase.send(phone, "whatsapp")
    wait_for("the captured message", lambda: captured.exists() and captured.read_text().endswith("\n"))
    message = json.loads(captured.read_text().splitlines()[-1])
    expect("captured message", (message["channel"], message["to"]), ("whatsapp", f"+{phone}"))
    require("the right code", supabase.accepts(phone, message["code"]))
    prove("Supabase Auth sends a code by WhatsApp, and accepts it")

    unknown = {"To": "+447400123457", "Code": code}
    supabase.fail("VerificationCheck", unknown, 404, 20404)
    supabase.fail("VerificationCheck", {"To": f"+{phone}", "Code": message["code"]}, 404, 20404)
    prove("Supabase Auth can read the error for a number without a verification, and for a code that was used")

    sms = {"To": "+1234", "Channel": "sms"}
    supabase.fail("Verifications", sms, 400, 60200)
    supabase.fail("Verifications", {**sms, "To": f"+{phone}"}, 401, 20003, password="0" * 32)
    prove("Supabase Auth can read the error for an invalid number, and for a wrong auth token")


def run_zitadel(zitadel, code_to, prove):
    phone = "+447400123460"
    sid = zitadel.send(phone)
    code = code_to(phone)
    expect("status after a wrong code", zitadel.check(sid, other_code(code)), "pending")
    expect("status after the right code", zitadel.check(sid, code), "approved")
    prove("Zitadel sends a code, refuses a wrong one, and accepts the right one")

    zitadel.fail("VerificationCheck", {"VerificationSid": sid, "Code": code}, 404, 20404)
    unknown = {"VerificationSid": f"VE{'0' * 32}", "Code": code}
    zitadel.fail("VerificationCheck", unknown, 404, 20404)
    prove("Zitadel can read the error for a code that was used, and for an unknown SID")

    phone = "+447400123461"
    sid = zitadel.send(phone)
    code = code_to(phone)
    expect("SIDs of repeated verifications", {zitadel.send(phone) for _ in range(4)}, {sid})
    # Zitadel gives up without a retry for the codes 60203 and 60410.
    zitadel.fail("Verifications", {"To": phone, "Channel": "sms"}, 429, 60203)
    prove("Zitadel can read the error after five messages to a number, for which it has a rule")

    statuses = [zitadel.check(sid, other_code(code)) for _ in range(5)]
    expect("statuses after wrong codes", statuses, ["pending"] * 4 + ["max_attempts_reached"])
    zitadel.fail("VerificationCheck", {"VerificationSid": sid, "Code": code}, 429, 60202)
    prove("Zitadel can read status and error after five wrong codes")

    # With the six messages before.
    for number in range(MAX_CODES_PER_SERVICE_PER_HOUR - 6):
        zitadel.send(f"+44740012347{number}")
    zitadel.fail("Verifications", {"To": "+447400123465", "Channel": "sms"}, 403, 60410)
    prove("Zitadel can read the error of the hourly limit, for which it has a rule")
