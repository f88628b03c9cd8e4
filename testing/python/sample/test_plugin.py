"""Tests of the plugin itself: start and end of the server, isolation, and the output of failed tests."""

import datetime
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.parse
from concurrent.futures import ProcessPoolExecutor

import pytest
from countersign_testing import Countersign, CountersignError, Server

# A Python process that starts a server, prints its URL, and waits.
HOLDER = """
import time
from countersign_testing import Server
print(Server.start().url, flush=True)
time.sleep(60)
"""
# The same with a child, whose process ID it prints too. The child outlives it.
FORKING_HOLDER = """
import os, time
from countersign_testing import Server
url = Server.start().url
child = os.fork()
if child:
    print(url, child, flush=True)
time.sleep(60)
"""


def is_up(url):
    """Whether the server still listens. While it stops, it answers every request with 503."""
    address = urllib.parse.urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port), timeout=10).close()
    except OSError:
        return False
    return True


def test_start_takes_less_than_a_second():
    times = []
    # Again if it is slow, because other tests may load the machine.
    while len(times) < 10 and min(times, default=1) >= 1:
        server = Server.start()
        times.append(server.start_seconds)
        server.stop()
        assert not is_up(server.url)
    assert min(times) < 1, times


@pytest.mark.parametrize("program", [HOLDER, FORKING_HOLDER], ids=["alone", "with a child"])
def test_killed_test_process_leaves_no_server(program):
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    url, *children = holder.stdout.readline().split()
    assert is_up(url)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    try:
        end = time.monotonic() + 10
        while is_up(url):
            assert time.monotonic() < end, "the server outlives the process that started it"
            time.sleep(0.02)
    finally:
        for child in children:
            os.kill(int(child), signal.SIGKILL)


def test_open_pool_of_processes_does_not_delay_the_stop():
    server = Server.start()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(os.getpid).result()
        server.stop()
        assert not is_up(server.url)


def test_forked_process_does_not_stop_the_server():
    server = Server.start()
    child = multiprocessing.get_context("fork").Process(target=server.stop)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert is_up(server.url)
    server.stop()


def test_program_that_inherited_the_pipe_does_not_delay_the_stop():
    server = Server.start()
    program = subprocess.Popen(["sleep", "60"], pass_fds=[server._process.stdin.fileno()])
    try:
        server.stop()
        assert not is_up(server.url)
    finally:
        program.kill()
        program.wait()


def test_settings_of_production_in_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("COUNTERSIGN_DATABASE_URL", "postgres://production/countersign")
    server = Server.start()
    server.stop()


def test_missing_binary_is_named(monkeypatch):
    monkeypatch.setenv("COUNTERSIGN_BINARY", "/nowhere/countersign")
    with pytest.raises(CountersignError, match="COUNTERSIGN_BINARY is not a program: /nowhere/countersign"):
        Server.start()


def test_server_that_ends_at_once_shows_its_log(monkeypatch, tmp_path):
    program = tmp_path / "countersign"
    program.write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("COUNTERSIGN_BINARY", str(program))
    with pytest.raises(CountersignError, match="ended before it was ready:\nout of order"):
        Server.start()


def test_clock_of_a_shared_server_cannot_be_moved(countersign):
    with pytest.raises(CountersignError, match="mark the test with @pytest.mark.countersign_own_server"):
        countersign.clock.advance(minutes=5)


@pytest.mark.countersign_own_server
def test_clock_travels_to_an_instant_within_the_second(countersign):
    now = countersign.clock.freeze()
    assert countersign.clock.travel_to(now) == now
    later = now + datetime.timedelta(microseconds=1)
    assert countersign.clock.travel_to(later) == later


def test_name_of_a_test_can_have_any_characters(countersign_server):
    for name in ["tab\t, line\r\n, \x00\x1f\x7f\x85\x9f", "\N{WAVING HAND SIGN}" * 65]:
        Countersign(countersign_server, name)


@pytest.mark.parametrize("round", range(2))
def test_each_test_has_an_account_of_its_own(countersign, round):
    countersign.device("user-0001")
    assert [push["service_sid"] for push in countersign.pushes.list()] == []
    services = countersign.api("GET", "/v2/Services")["services"]
    assert [service["sid"] for service in services] == [countersign.service_sid]


@pytest.mark.parametrize("marker", ["", "@pytest.mark.countersign_own_server"])
def test_failure_shows_the_log_of_the_phone_and_the_captures(pytester, marker):
    pytester.makepyfile(
        textwrap.dedent(
            f"""
            import pytest

            {marker}
            def test_fails(countersign):
                phone = countersign.device("user-0001")
                client = countersign.twilio()
                challenges = client.verify.v2.services(phone.service_sid).entities("user-0001").challenges
                challenge = challenges.create(factor_sid=phone.factor_sid, details_message="Sign in?")
                phone.deny()
                assert challenges(challenge.sid).fetch().status == "approved"
            """
        )
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    shown = result.stdout.str()
    report = shown[shown.index("- Countersign -") :]
    assert "log of the phone of user-0001, factor YF" in report
    assert " deny 200" in report
    assert "last pushes" in report and " fcm YC" in report
    assert "last webhooks\n  none" in report
