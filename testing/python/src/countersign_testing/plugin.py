"""The pytest plugin `countersign`: the fixtures `countersign` and `countersign_server`, and one marker."""

import os

import pytest

from .account import Countersign
from .server import Server

OWN_SERVER = "countersign_own_server"
accounts_key = pytest.StashKey()


def pytest_configure(config):
    config.addinivalue_line("markers", f"{OWN_SERVER}: give the test a Countersign server of its own, for clock and chaos")


@pytest.fixture(scope="session")
def countersign_server():
    """A server in test mode that the tests of this process share: COUNTERSIGN_URL, else a new process."""
    url = os.environ.get("COUNTERSIGN_URL")
    if url:
        yield Server.attach(url)
        return
    server = Server.start(is_shared=True)
    yield server
    server.stop()


@pytest.fixture
def countersign(request):
    """An account of a Countersign server in test mode, which no other test uses."""
    own_server = None
    if request.node.get_closest_marker(OWN_SERVER):
        own_server = Server.start()
    server = own_server or request.getfixturevalue("countersign_server")
    try:
        account = Countersign(server, request.node.name)
        request.node.stash.setdefault(accounts_key, []).append(account)
        yield account
    finally:
        if own_server:
            own_server.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    # When the report of a teardown is made, the server may be stopped.
    if report.failed and call.when != "teardown":
        for account in item.stash.get(accounts_key, []):
            report.sections.append(("Countersign", account.report()))
