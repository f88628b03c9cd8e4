"""The browser phone at /phone/, with a backend that is this script.

Each test has a browser with a new profile. After each, the browser's log must be free of errors, and so of violations
of the content security policy.
"""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from server import OPENER, SECONDS, TARGET, Countersign, binary, clean_environment
from webdriver import Browser

SHOTS = TARGET / "browser"
# A common phone, and the narrowest screen that the page supports.
PHONE, NARROW = (390, 844), (320, 640)
TAB, ENTER = "\ue004", "\ue007"
RLO = "\u202e"
# A name that is not this machine's, so that browsers want HTTPS for it.
OPTIONS = ["--host-resolver-rules=MAP phone.test 127.0.0.1", "--disable-features=HttpsUpgrades"]
TESTS = []
# Whether screenshots are taken, which takes half of the time.
IS_COMPLETE = True


def test(function):
    TESTS.append(function)
    return function


class Bank(Countersign):
    """A server with the browser phone, and a backend with one service."""

    def __enter__(self):
        super().__enter__()
        self.service = self.post("/v2/Services", {"FriendlyName": "Owl Bank"})["sid"]
        return self

    def link(self, identity, seconds=300):
        """Returns an enrollment link for a user."""
        form = {"Identity": identity, "FactorType": "push", "Ttl": str(seconds)}
        token = self.post(f"/v2/Services/{self.service}/AccessTokens", form)["token"]
        return f"{self.url}/phone/#t={token}&s={self.service}&i={identity}"

    def entity(self, identity):
        return f"/v2/Services/{self.service}/Entities/{identity}"

    def factors(self, identity):
        entities = self.get(f"/v2/Services/{self.service}/Entities?PageSize=1000")["entities"]
        if identity not in [entity["identity"] for entity in entities]:
            return []
        return self.get(f"{self.entity(identity)}/Factors")["factors"]

    def ask(self, identity, message="Sign in to Owl Bank?", fields=(), **more):
        """Asks the user's last phone, and returns the path of the challenge."""
        form = [("FactorSid", self.factors(identity)[-1]["sid"]), ("Details.Message", message), *more.items()]
        form += [("Details.Fields", json.dumps({"label": label, "value": value})) for label, value in fields]
        made = self.post(f"{self.entity(identity)}/Challenges", form)
        return f"{self.entity(identity)}/Challenges/{made['sid']}"


class Page:
    """The page in a browser, and the user who uses it."""

    def __init__(self, browser, bank):
        self.browser, self.bank = browser, bank
        self.identity = "user-" + secrets.token_hex(4)
        self.resize(*PHONE)

    def resize(self, width, height):
        self.browser.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True
        )

    def enroll(self):
        """Enrolls the browser by a link, and goes to the home screen."""
        self.browser.open(self.bank.link(self.identity))
        self.browser.click("#enroll")
        self.browser.wait_for_text("h1", "Enrolled")
        self.browser.click("#done")
        self.browser.wait_for_text(".state", "Connected")

    def ask(self, *arguments, **more):
        """Asks the user, and opens the request."""
        path = self.bank.ask(self.identity, *arguments, **more)
        self.open_request(path)
        return path

    def open_request(self, path):
        self.browser.click(f"#{path.split('/')[-1]}")
        self.browser.find("#approve")

    def answer(self, button, title):
        self.browser.click(f"#{button}")
        self.browser.wait_for_text("h1", title)

    def status(self, path):
        return self.bank.get(path)["status"]

    def show(self, name):
        """Takes screenshots of this state in both color schemes, and checks its accessibility."""
        if not IS_COMPLETE:
            return
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            self.browser.devtools("Emulation.setEmulatedMedia", features=[feature])
            self.browser.screenshot(SHOTS / f"{name}-{scheme}.png")
            self.require_accessible(f"{name}, {scheme}")
        self.resize(*NARROW)
        width = self.browser.evaluate("return document.documentElement.scrollWidth")
        assert width <= NARROW[0], f"{name}: {width} px wide"
        self.browser.screenshot(SHOTS / f"{name}-narrow.png")
        self.resize(*PHONE)

    def require_accessible(self, name):
        axe = axe_or_skip()
        if axe:
            tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
            self.browser.evaluate(axe)
            found = self.browser.run(
                """async (tags) => {
                    const { violations } = await axe.run(document, { runOnly: tags, preload: false });
                    return violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);
                }""",
                tags,
            )
            assert found == [], f"{name}: {found}"


def axe_or_skip():
    """Returns the source of axe-core, or None if it is not installed."""
    folder = os.environ.get("COUNTERSIGN_TEST_BROWSER")
    source = folder and Path(folder) / "node_modules" / "axe-core" / "axe.min.js"
    if source and source.is_file():
        return source.read_text()
    assert not os.environ.get("CI"), "COUNTERSIGN_TEST_BROWSER names no folder with axe-core"
    return None


@test
def link_enrolls_the_browser_and_leaves_the_address_bar(page):
    browser = page.browser
    browser.open(page.bank.link(page.identity))
    browser.find("#enroll")
    assert browser.evaluate("return location.href") == f"{page.bank.url}/phone/"
    page.show("enroll")
    browser.type("#name", "Ana's laptop")
    browser.click("#enroll")
    browser.wait_for_text("h1", "Enrolled")
    page.show("enrolled")
    [factor] = page.bank.factors(page.identity)
    assert (factor["status"], factor["friendly_name"]) == ("verified", "Ana's laptop"), factor
    assert factor["config"]["app_id"] == "countersign.webphone", factor
    assert re.fullmatch(r"web-[\d.]+", factor["config"]["sdk_version"]), factor
    browser.click("#done")
    browser.wait_for_text(".state", "Connected")
    assert browser.text(".identity") == page.identity
    page.show("home")


@test
def pasted_link_enrolls_the_browser(page):
    browser = page.browser
    browser.open(f"{page.bank.url}/phone/")
    browser.wait_for_text("h1", "Enroll this browser")
    page.show("first-visit")
    browser.type("#link", "https://elsewhere.example/phone/#" + page.bank.link(page.identity).split("#")[1])
    browser.click("#paste")
    browser.wait_for_text("[role=alert]", "another server")
    browser.type("#link", page.bank.link(page.identity))
    browser.click("#paste")
    browser.click("#enroll")
    browser.wait_for_text("h1", "Enrolled")
    assert page.bank.factors(page.identity)[0]["status"] == "verified"


@test
def enrollment_survives_a_reload_and_its_key_cannot_be_exported(page):
    browser = page.browser
    page.enroll()
    browser.call("POST", "/refresh")
    browser.wait_for_text(".state", "Connected")
    path = page.ask(fields=[("Place", "Berlin"), ("Device", "Firefox on Linux"), ("Code", "47")])
    assert "Berlin" in browser.text(".fields")
    large = browser.evaluate("return getComputedStyle(document.querySelector('dd.large')).fontSize")
    assert browser.text("dd.large") == "47" and float(large.removesuffix("px")) >= 32, large
    browser.find("#approve:enabled")
    page.show("request")
    page.answer("approve", "Approved")
    page.show("approved")
    assert page.status(path) == "approved"
    read_key = """async () => {
        const open = indexedDB.open('countersign-phone');
        await new Promise((done) => (open.onsuccess = done));
        const all = open.result.transaction('enrollments').objectStore('enrollments').getAll();
        await new Promise((done) => (all.onsuccess = done));
        const { key } = all.result[0];
        const failed = (format) => crypto.subtle.exportKey(format, key).then(() => 'exported', (error) => error.name);
        return [await failed('pkcs8'), await failed('jwk'), all.result.length];
    }"""
    assert browser.run(read_key) == ["InvalidAccessError", "InvalidAccessError", 1]


@test
def denied_request_says_whether_it_was_the_user(page):
    browser = page.browser
    page.enroll()
    path = page.ask(fields=[("Number", "93")])
    assert browser.text("dd.large") == "93"
    page.answer("deny", "Was that you?")
    page.show("deny")
    page.answer("not-me", "Denied")
    page.show("denied")
    challenge = page.bank.get(path)
    assert (challenge["status"], challenge["metadata"]) == ("denied", {"reason": "not_me"}), challenge
    browser.click("#done")
    path = page.ask()
    page.answer("deny", "Was that you?")
    page.answer("me", "Denied")
    challenge = page.bank.get(path)
    assert (challenge["status"], challenge["metadata"]) == ("denied", None), challenge


@test
def spent_or_altered_link_enrolls_nothing(page):
    browser = page.browser
    page.enroll()
    # The link of another user, which another phone has used.
    other = "user-" + secrets.token_hex(4)
    link = page.bank.link(other)
    browser.open(link)
    browser.click("#enroll")
    browser.wait_for_text("h1", "Enrolled")
    browser.open(link)
    browser.click("#enroll")
    browser.wait_for_text("[role=alert]", "already used or has expired")
    page.show("spent-link")
    assert len(page.bank.factors(other)) == 1
    third = "user-" + secrets.token_hex(4)
    link = page.bank.link(third)
    # A character of the encrypted part, so that the last bits of the text do not matter.
    altered = link[:200] + ("A" if link[200] != "A" else "B") + link[201:]
    browser.open(altered)
    browser.click("#enroll")
    browser.wait_for_text("[role=alert]", "already used or has expired")
    browser.open(link.replace(f"i={third}", f"i={other}"))
    browser.click("#enroll")
    browser.wait_for_text("[role=alert]", "another user")
    browser.open(link.split("&i=")[0])
    browser.wait_for_text("[role=alert]", "incomplete")
    page.show("altered-link")
    assert page.bank.factors(third) == []


@test
def removed_phone_says_so_and_the_page_stays_usable(page):
    browser = page.browser
    page.enroll()
    factor = page.bank.factors(page.identity)[0]
    page.bank.delete(f"{page.bank.entity(page.identity)}/Factors/{factor['sid']}")
    browser.wait_for_text("[role=alert]", "This phone was removed")
    page.show("removed")
    browser.click(f"#forget-{factor['sid']}")
    browser.wait_for_text("h1", "Enroll this browser")
    page.enroll()


@test
def wrong_clock_is_corrected(page):
    browser = page.browser
    shift = "const now = Date.now; Date.now = () => now() + 20 * 60 * 1000;"
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", source=shift)
    page.enroll()
    path = page.ask()
    left = browser.text(".countdown")
    assert re.fullmatch(r"[45]:\d\d", left), left
    page.answer("approve", "Approved")
    assert page.status(path) == "approved"


@test
def of_two_windows_one_answers_and_both_show_it(page):
    browser = page.browser
    page.enroll()
    path = page.bank.ask(page.identity)
    first = browser.call("GET", "/window")
    page.open_request(path)
    second = browser.open_window()
    browser.open(f"{page.bank.url}/phone/")
    page.open_request(path)
    start = time.time() * 1000 + 1_500
    press = """const [start] = arguments;
        setTimeout(() => document.getElementById('approve').click(), start - Date.now());"""
    for window in (first, second):
        browser.switch_to(window)
        browser.find("#approve:enabled")
        browser.evaluate(press, start)
    outcomes = []
    for window in (first, second):
        browser.switch_to(window)
        browser.wait_for_text("h1", "Approved")
        outcomes.append("another window" in browser.text("main"))
    assert sorted(outcomes) == [False, True], outcomes
    assert page.status(path) == "approved"
    page.show("answered-elsewhere")


@test
def request_appears_within_two_seconds(page):
    browser = page.browser
    page.enroll()
    for _ in range(3):
        began = time.monotonic()
        path = page.bank.ask(page.identity)
        browser.find(f"#{path.split('/')[-1]}")
        seconds = time.monotonic() - began
        # Half a second for the browser that is asked over and over.
        assert seconds <= 2.5, seconds
    assert browser.evaluate("return document.title").startswith("(3) ")
    page.show("requests")


@test
def request_that_is_answered_or_expires_meanwhile_disappears(page):
    browser = page.browser
    page.enroll()
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6))
    path = page.ask(ExpirationDate=soon)
    browser.wait_for_text("h1", "Expired")
    page.show("expired")
    assert page.status(path) == "expired"
    browser.click("#done")
    browser.wait_for_text(".empty", "No requests")


@test
def answer_is_possible_only_after_the_text_was_shown(page):
    browser = page.browser
    page.enroll()
    path = page.bank.ask(page.identity)
    watch = """async () => {
        const approve = () => document.getElementById('approve');
        while (!approve()) await new Promise(requestAnimationFrame);
        const began = performance.now();
        const focused = document.activeElement.tagName;
        while (approve().disabled) await new Promise(requestAnimationFrame);
        return [performance.now() - began, focused, document.activeElement.tagName];
    }"""
    browser.call("POST", "/refresh")
    button = f"#{path.split('/')[-1]}"
    browser.find(f"{button}:enabled")
    open_and_watch = f"async () => {{ document.querySelector('{button}').click(); return ({watch})(); }}"
    waited, before, after = browser.run(open_and_watch)
    assert waited >= 550, waited
    assert (before, after) == ("H1", "H1"), (before, after)


@test
def keyboard_is_enough(page):
    browser = page.browser

    def focus(selector):
        for _ in range(30):
            if browser.evaluate("return document.activeElement.matches(arguments[0])", selector):
                return
            browser.keys(TAB)
        raise AssertionError(f"{selector} cannot be reached with Tab")

    browser.open(page.bank.link(page.identity))
    browser.find("#enroll")
    focus("#enroll")
    browser.keys(ENTER)
    browser.wait_for_text("h1", "Enrolled")
    focus("#done")
    browser.keys(ENTER)
    browser.wait_for_text(".state", "Connected")
    path = page.bank.ask(page.identity)
    browser.find(".request")
    focus(".request")
    browser.keys(ENTER)
    browser.find("#approve:enabled")
    focus("#approve")
    width = browser.evaluate("return getComputedStyle(document.activeElement).outlineWidth")
    assert width == "3px", width
    browser.keys(ENTER)
    browser.wait_for_text("h1", "Approved")
    assert page.status(path) == "approved"


@test
def hidden_characters_are_marked(page):
    browser = page.browser
    page.enroll()
    page.ask(f"Pay 10{RLO}00 EUR\u200b?", [("<b>Code</b>", f"<img src=x onerror=alert(1)>{RLO}")])
    marks = browser.evaluate("return [...document.querySelectorAll('.mark')].map((mark) => mark.textContent)")
    assert marks == ["U+202E", "U+200B", "U+202E"], marks
    assert "<b>Code</b>" in browser.text("dt") and "onerror" in browser.text("dd")
    assert browser.evaluate("return document.querySelectorAll('main img, main b').length") == 0
    page.show("hidden-characters")


@test
def several_enrollments_are_kept_apart(page):
    browser = page.browser
    page.enroll()
    first = page.identity
    page.identity = "user-" + secrets.token_hex(4)
    page.enroll()
    path = page.bank.ask(first, "For the first user?")
    page.open_request(path)
    assert first in browser.text(".from")
    page.answer("approve", "Approved")
    browser.click("#done")
    browser.wait(lambda: len(browser.evaluate("return [...document.querySelectorAll('.card')]")) == 2, "two cards")
    assert page.status(path) == "approved"
    page.show("several")


@test
def second_enrollment_of_a_user_offers_to_remove_the_first(page):
    browser = page.browser
    page.enroll()
    for button, count in [("keep", 2), ("replace", 1)]:
        browser.open(page.bank.link(page.identity))
        browser.click("#enroll")
        browser.wait_for_text("main", "It was enrolled for " + page.identity)
        page.show("enrolled-again")
        newest = page.bank.factors(page.identity)[-1]["sid"]
        browser.click(f"#{button}")
        if button == "replace":
            browser.wait_for_text("h1", "Removed")
            browser.click("#done")
        browser.wait_for_text(".state", "Connected")
        factors = page.bank.factors(page.identity)
        assert (len(factors), factors[-1]["sid"]) == (count, newest), factors
    path = page.ask()
    page.answer("approve", "Approved")
    assert page.status(path) == "approved"


@test
def history_and_settings_show_and_change_the_enrollment(page):
    browser = page.browser
    page.enroll()
    for number in range(22):
        path = page.bank.ask(page.identity, f"Request {number}?")
        if number == 21:
            page.open_request(path)
            page.answer("approve", "Approved")
            browser.click("#done")
    factor = page.bank.factors(page.identity)[0]["sid"]
    browser.click(f"#history-{factor}")
    browser.wait_for_text(".history", "Request 21?")
    assert "Approved" in browser.text(".history li")
    page.show("history")
    browser.click("#more")
    browser.wait_for_text(".history", "Request 0?")
    assert browser.find_now("#more") is None
    browser.click("#back")
    browser.click(f"#settings-{factor}")
    browser.type("#name", "Renamed")
    browser.click("#rename")
    browser.wait(lambda: page.bank.factors(page.identity)[0]["friendly_name"] == "Renamed", "new name")
    browser.click("#ask-remove")
    page.show("settings")
    browser.click("#remove")
    browser.wait_for_text("h1", "Removed")
    assert page.bank.factors(page.identity) == []
    browser.click("#done")
    browser.wait_for_text("h1", "Enroll this browser")


@test
def page_starts_offline_and_recovers(page):
    browser = page.browser
    page.enroll()
    page.bank.ask(page.identity)
    browser.find(".request")
    kept = """async () => {
        await navigator.serviceWorker.ready;
        return (await (await caches.open('countersign-phone')).keys()).length;
    }"""
    assert browser.run(kept) == 19
    page.bank.process.send_signal(signal.SIGSTOP)
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.devtools("Network.enable")
    browser.devtools("Network.emulateNetworkConditions", offline=True, **network)
    browser.wait_for_text(".state", "Offline")
    assert browser.find_now(".request:disabled")
    page.show("offline")
    browser.call("POST", "/refresh")
    browser.wait_for_text(".state", "Offline")
    assert browser.text(".identity") == page.identity
    page.bank.process.send_signal(signal.SIGCONT)
    browser.devtools("Network.emulateNetworkConditions", offline=False, **network)
    browser.wait_for_text(".state", "Connected")
    browser.find(".request:enabled")
    browser.errors()


@test
def page_that_was_turned_off_does_not_run_from_copies(page):
    browser = page.browser
    with Bank("--browser-phone") as bank:
        browser.open(f"{bank.url}/phone/")
        browser.run("async () => { await navigator.serviceWorker.ready; }")
        bank.stop()
        with other_site("<p>Not here</p>", status=404, port=int(bank.url.split(":")[-1])):
            browser.open(f"{bank.url}/phone/")
            browser.wait_for_text("p", "Not here")
            left = "async () => [(await caches.keys()).length, (await navigator.serviceWorker.getRegistrations()).length]"
            browser.wait(lambda: browser.run(left) == [0, 0], "no copies and no service worker")
    browser.errors()


@test
def page_without_https_shows_one_sentence(page):
    port = page.bank.url.split(":")[-1]
    page.browser.open(f"http://phone.test:{port}/phone/#t=1")
    page.browser.wait_for_text("h1", "HTTPS needed")
    assert page.browser.evaluate("return document.querySelectorAll('main > *').length") == 2
    assert page.browser.find_now("button, input") is None
    assert page.browser.evaluate("return location.hash") == ""
    page.show("no-https")
    # A header of the page has no effect without HTTPS.
    assert [message for message in page.browser.errors() if "Cross-Origin-Opener-Policy" not in message] == []


@test
def page_cannot_be_framed_and_its_policy_is_strict(page):
    with OPENER.open(f"{page.bank.url}/phone/", timeout=SECONDS) as response:
        policy = response.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "require-trusted-types-for 'script'" in policy, policy
    browser = page.browser
    browser.open(f"{page.bank.url}/phone/")
    browser.find("#link")
    blocked = browser.evaluate(
        """const tried = [];
        try { document.body.innerHTML = '<b>'; tried.push('markup'); } catch (error) { tried.push(error.name); }
        try { trustedTypes.createPolicy('other', {}); tried.push('policy'); } catch (error) { tried.push(error.name); }
        return tried;"""
    )
    assert blocked == ["TypeError", "TypeError"], blocked
    browser.errors()
    with other_site(f'<iframe src="{page.bank.url}/phone/"></iframe>') as site:
        browser.open(site)
        time.sleep(0.5)
        browser.call("POST", "/frame", {"id": 0})
        assert "Countersign phone" not in browser.call("GET", "/source")
        browser.call("POST", "/frame", {"id": None})
    refusals = [message for message in browser.errors() if "frame-ancestors" in message or "X-Frame-Options" in message]
    assert refusals, "the frame was refused for no reason"


@test
def newcomer_approves_with_the_demo_within_a_minute(page):
    began = time.monotonic()
    command = [binary(), "demo", "--stay"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=clean_environment(), text=True, **pipes) as demo:
        try:
            link = next(line.strip() for line in demo.stdout if line.startswith("http") and "/phone/#t=" in line)
            page.browser.open(link)
            page.browser.click("#enroll")
            page.browser.wait_for_text("h1", "Enrolled")
            page.browser.click("#done")
            demo.stdin.write("\n")
            demo.stdin.flush()
            page.browser.click(".request")
            page.browser.click("#approve")
            page.browser.wait_for_text("h1", "Approved")
            next(line for line in demo.stdout if line.strip() == "✓ approved")
            seconds = time.monotonic() - began
            assert seconds < 60, seconds
            print(f"   from `demo --stay` to the approval: {seconds:.0f} s")
            demo.send_signal(signal.SIGINT)
            assert demo.wait(SECONDS) == 0
        finally:
            demo.kill()


@contextlib.contextmanager
def other_site(html, status=200, port=0):
    """Serves a page of another origin, or on another server's port, and yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()


def is_expected(message):
    """Returns whether a message only says that a request was refused or found no server, which the page handles."""
    return re.search(r"Failed to load resource: (the server responded with a status of 4\d\d|net::ERR_)", message)


def run_test(function, folder, bank):
    name = function.__name__
    with Browser(folder / name, *OPTIONS) as browser:
        try:
            function(Page(browser, bank))
            # The favicon of the page of another origin, for example, is not served.
            errors = [message for message in browser.errors() if not is_expected(message)]
            assert not errors, errors
            assert "ERROR" not in bank.read_log(), bank.read_log()
        except Exception:
            browser.screenshot(SHOTS / f"failed-{name}.png")
            (SHOTS / f"failed-{name}.html").write_text(browser.call("GET", "/source"))
            (SHOTS / f"failed-{name}.log").write_text(bank.read_log())
            raise


def run(folder, word="", *rest):
    global IS_COMPLETE
    IS_COMPLETE = "--quick" not in rest
    failed = []
    with Bank("--browser-phone") as bank:
        expiring = bank.link("user-expired", 60)
        until = time.monotonic() + 61
        for function in [function for function in TESTS if word in function.__name__]:
            name = function.__name__.replace("_", " ")
            try:
                began = time.monotonic()
                run_test(function, folder, bank)
                print(f"ok {name} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception:
                traceback.print_exc()
                print(f"FAILED {name}", flush=True)
                failed.append(name)
        if not word:
            # Last, so that the minute has passed while the other tests ran.
            time.sleep(max(0, until - time.monotonic()))
            with Browser(folder / "expired") as browser:
                browser.open(expiring)
                browser.click("#enroll")
                browser.wait_for_text("[role=alert]", "already used or has expired")
                assert bank.factors("user-expired") == []
                print("ok expired link enrolls nothing")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
