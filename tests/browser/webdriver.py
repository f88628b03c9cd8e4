"""Chromium, controlled with WebDriver (https://www.w3.org/TR/webdriver2/)."""

import base64
import contextlib
import re
import shutil
import subprocess
import time

from server import SECONDS, request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
STARTS = 3
TOOLS = [shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")]


class Browser:
    """Chromium with a profile in a folder. Closed at the end of the block."""

    def __init__(self, folder, *arguments):
        folder.mkdir(exist_ok=True)
        self.log = open(folder / "chromedriver.log", "w+")
        # The options after the third keep it from calling its vendor.
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        options += ["--disable-component-update", "--disable-sync", "--disable-quic", "--no-first-run"]
        # The shared memory of a container is small.
        options += ["--no-proxy-server", "--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}"]
        self.capabilities = {
            "browserName": "chrome",
            "webauthn:virtualAuthenticators": True,
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": TOOLS[0], "args": [*options, *arguments]},
        }

    def __enter__(self):
        self.session = f"http://127.0.0.1:{self.start_driver()}/session"
        made = self.call("POST", "", {"capabilities": {"alwaysMatch": self.capabilities}})
        self.session += "/" + made["sessionId"]
        self.call("POST", "/timeouts", {"script": SECONDS * 1000})
        return self

    def start_driver(self):
        """Starts chromedriver, and returns its port."""
        # It ends if another process takes its free port in the meantime, for IPv4 or for IPv6.
        for _ in range(STARTS):
            command = [TOOLS[1], "--port=0"]
            self.driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
            for line in self.driver.stdout:
                started = re.search(r"started successfully on port (\d+)", line)
                if started:
                    return started.group(1)
            self.driver.wait()
        self.log.seek(0)
        raise AssertionError(f"chromedriver ended before it was ready: {self.log.read()}")

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.call("DELETE", "")
        self.driver.terminate()
        self.driver.wait()

    def call(self, method, path, body=None):
        status, answer = request(method, self.session + path, body if method == "GET" else body or {})
        assert status == 200, answer
        return answer["value"]

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """Runs a function of the page, and returns its result, or the error as a text."""
        wrapped = f"""
            const done = arguments[arguments.length - 1];
            ({script})(...arguments).then((value) => done({{ value }}), (error) => done({{ error: String(error) }}));
        """
        result = self.call("POST", "/execute/async", {"script": wrapped, "args": list(arguments)})
        return result.get("value") if "value" in result else result["error"]

    @contextlib.contextmanager
    def authenticator(self, **options):
        """Adds a virtual authenticator (Web Authentication section 11.2), and yields its path."""
        defaults = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserConsenting": True,
            "isUserVerified": True,
        }
        path = "/webauthn/authenticator/" + self.call("POST", "/webauthn/authenticator", defaults | options)
        try:
            yield path
        finally:
            self.call("DELETE", path)

    def evaluate(self, script, *arguments):
        """Runs the body of a function in the page, and returns its result."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector):
        """Waits for an element, and returns its path."""
        return self.wait(lambda: self.find_now(selector), selector)

    def find_now(self, selector):
        """Returns the path of an element, or None."""
        found = self.call("POST", "/elements", {"using": "css selector", "value": selector})
        return f"/element/{found[0][ELEMENT]}" if found else None

    def click(self, selector):
        """Waits until an element can be clicked, and clicks it."""
        self.wait(lambda: self.find_now(f"{selector}:enabled"), selector)
        self.retry(lambda: self.call("POST", self.find(selector) + "/click"))

    def type(self, selector, text):
        path = self.find(selector)
        self.call("POST", path + "/clear")
        self.call("POST", path + "/value", {"text": text})

    def keys(self, *keys):
        """Presses keys, whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def text(self, selector):
        return self.retry(lambda: self.call("GET", self.find(selector) + "/text"))

    def wait_for_text(self, selector, text):
        """Waits until an element contains a text, and returns the whole text of the element."""

        def found():
            path = self.find_now(selector)
            shown = path and self.call("GET", path + "/text")
            return shown if shown and text in shown else None

        return self.wait(lambda: self.retry(found), f"{selector} with {text!r}")

    def wait(self, condition, name, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            result = condition()
            if result:
                return result
            time.sleep(0.02)
        raise AssertionError(f"not found: {name}")

    def retry(self, action):
        """Does something with an element that the page may replace in the meantime."""
        for _ in range(20):
            try:
                return action()
            except AssertionError as error:
                if "stale element" not in str(error) and "not interactable" not in str(error):
                    raise
                time.sleep(0.05)
        return action()

    def devtools(self, command, **parameters):
        """Sends a command of the Chrome DevTools Protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screenshot(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def open_window(self):
        """Opens another window, goes there, and returns its handle."""
        handle = self.call("POST", "/window/new", {"type": "window"})["handle"]
        self.switch_to(handle)
        return handle

    def switch_to(self, handle):
        self.call("POST", "/window", {"handle": handle})

    def errors(self):
        """Returns the errors in the browser's log since the last call."""
        entries = self.call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
