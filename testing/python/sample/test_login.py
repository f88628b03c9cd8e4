"""Tests of a backend whose sign-in needs the phone. Copy what is useful."""

import pytest
from countersign_testing import RequestError

USER = "user-0001"


def is_delivered(webhook):
    return any(attempt["ending"] == "delivered" for attempt in webhook["attempts"])


def test_login_waits_for_the_phone(countersign, backend):
    phone = countersign.device(USER)
    login = backend.start_login(USER)
    assert backend.state(USER, login) == "waiting"
    phone.approve()
    assert backend.state(USER, login) == "signed in"


def test_denied_login_is_refused(countersign, backend):
    phone = countersign.device(USER)
    login = backend.start_login(USER)
    phone.deny()
    assert backend.state(USER, login) == "refused"
    with pytest.raises(RequestError) as refused:
        phone.approve(login)
    assert refused.value.status == 409


def test_webhook_reports_an_approval(countersign, backend):
    backend.subscribe()
    phone = countersign.device(USER, approve_after=0)
    login = backend.start_login(USER)
    webhook = countersign.webhooks.wait(type="challenge.approved", where=is_delivered)
    assert webhook["parameters"]["challenge_sid"] == login
    assert webhook["parameters"]["factor_sid"] == phone.factor_sid
    assert backend.states[login] == "signed in"


@pytest.mark.parametrize("where", [None, lambda webhook: True], ids=["any", "where"])
def test_returned_webhook_has_been_handled(countersign, backend, where):
    backend.subscribe()
    backend.delay_seconds = 0.3
    countersign.device(USER, approve_after=0)
    login = backend.start_login(USER)
    countersign.webhooks.wait(where=where)
    assert backend.states[login] == "signed in"


def test_push_asks_the_phone(countersign, backend):
    phone = countersign.device(USER, push="apn")
    login = backend.start_login(USER)
    push = countersign.pushes.wait(factor_sid=phone.factor_sid)
    assert (push["provider"], push["challenge_sid"], push["outcome"]) == ("apn", login, "delivered")


def test_code_on_the_phone_is_that_of_the_login(countersign, backend):
    phone = countersign.device(USER)
    backend.start_login(USER, code="47")
    assert phone.approve().field("code") == "47"


@pytest.mark.countersign_own_server
def test_login_times_out_when_nobody_answers(countersign, backend):
    countersign.device(USER, "ignore")
    login = backend.start_login(USER)
    countersign.clock.advance(minutes=4)
    assert backend.state(USER, login) == "waiting"
    countersign.clock.advance(minutes=1, seconds=1)
    assert backend.state(USER, login) == "timed out"


@pytest.mark.countersign_own_server
def test_failed_webhook_is_sent_again_and_delays_no_login(countersign, backend):
    backend.subscribe()
    backend.is_broken = True
    phone = countersign.device(USER)
    login = backend.start_login(USER)
    countersign.clock.freeze()
    phone.approve()
    attempts = countersign.webhooks.wait(challenge_sid=login, where=lambda webhook: webhook["attempts"])["attempts"]
    assert [(attempt["ending"], attempt["status"]) for attempt in attempts] == [("again", 500)]
    assert backend.states[login] == "waiting"
    assert backend.state(USER, login) == "signed in"

    backend.is_broken = False
    countersign.clock.advance(seconds=10)
    countersign.webhooks.wait(challenge_sid=login, where=is_delivered)
