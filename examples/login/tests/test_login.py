"""Tests of the login page by its requests, with phones of the fixture in testing/python."""

import threading

import pytest

USER = "user-0001"
OTHER = "user-0002"


def wrong(number):
    return f"{(int(number) + 1) % 100:02}"


def test_approval_and_number_sign_the_user_in(countersign, browser):
    phone = countersign.device(USER)
    assert browser.start(USER).json() == {"state": "waiting", "identity": USER}
    assert browser.state() == "waiting"
    challenge = phone.approve()
    assert challenge["details"]["message"] == "Sign in to Example Bank?"
    assert browser.state() == "approved"
    number = challenge.field("Code")
    assert f'"{number}"' not in browser.received
    assert browser.account() == 401
    assert browser.enter(f" {number} ").json()["state"] == "signed_in"
    assert browser.state() == "signed_in"
    assert browser.account() == 200


def test_sign_in_and_session_have_cookies_of_their_own_and_end(countersign, browser):
    phone = countersign.device(USER)
    browser.start(USER)
    first = browser.session.cookies["login"]
    browser.enter(phone.approve().field("Code"))
    cookie = next(cookie for cookie in browser.session.cookies if cookie.name == "session")
    assert cookie.has_nonstandard_attr("HttpOnly")
    # Another sign-in in the same browser replaces the session.
    browser.start(USER)
    second = browser.session.cookies["login"]
    browser.log_out()
    assert browser.account() == 401
    for login in (first, second):
        stranger = browser.other(login=login, session=cookie.value)
        assert (stranger.account(), stranger._send("GET", "/login").status_code) == (401, 404)


def test_wrong_number_ends_the_sign_in(countersign, browser):
    phone = countersign.device(USER)
    browser.start(USER)
    number = phone.approve().field("Code")
    assert browser.enter(wrong(number)).json()["state"] == "wrong_number"
    assert browser.enter(number).status_code == 409
    assert browser.state() == "wrong_number"
    assert browser.account() == 401
    assert browser.start(USER).status_code == 429


def test_denial_protects_the_phone_for_a_while(countersign, site, browser):
    phone = countersign.device(USER)
    other = countersign.device(OTHER)
    browser.start(USER)
    phone.deny()
    assert browser.follow() == ["denied"]
    assert site.browser().start(USER).status_code == 429
    assert site.browser().start(OTHER).status_code == 200
    other.approve()


def test_only_one_of_many_numbers_at_once_counts(countersign, site, browser):
    phone = countersign.device(USER)
    browser.start(USER)
    number = phone.approve().field("Code")
    statuses = []

    def enter(guess):
        attacker = browser.other(login=browser.session.cookies["login"])
        statuses.append(attacker.enter(guess).status_code)

    guesses = [threading.Thread(target=enter, args=[wrong(number)]) for _ in range(8)]
    for guess in guesses:
        guess.start()
    for guess in guesses:
        guess.join()
    assert sorted(statuses) == [200] + [409] * 7


def test_number_does_not_replace_the_approval(countersign, browser):
    phone = countersign.device(USER)
    browser.start(USER)
    refused = browser.enter(phone.deny().field("Code"))
    assert (refused.status_code, refused.json()["state"]) == (409, "denied")


@pytest.mark.parametrize("answer, state", [("approve", "approved"), ("deny", "denied")])
def test_stream_ends_with_the_answer(countersign, site, browser, answer, state):
    phone = countersign.device(USER)
    browser.start(USER)
    timer = threading.Timer(0.3, getattr(phone, answer))
    timer.start()
    asked = len(site.gateway.paths)
    assert browser.follow() == [state]
    timer.join()
    paths = site.gateway.paths[asked:]
    assert len(paths) == 1 and paths[0].startswith("/countersign/v1/"), "it waited on the stream and did not poll"


@pytest.mark.without_streams
def test_answer_arrives_without_streams(countersign, browser):
    phone = countersign.device(USER)
    browser.start(USER)
    timer = threading.Timer(0.3, phone.approve)
    timer.start()
    assert browser.follow() == ["approved"]
    timer.join()


@pytest.mark.countersign_own_server
def test_unanswered_sign_in_expires(countersign, browser):
    countersign.device(USER)
    browser.start(USER)
    timer = threading.Timer(0.3, countersign.clock.advance, kwargs={"minutes": 5, "seconds": 1})
    timer.start()
    assert browser.follow() == ["expired"]
    timer.join()
    assert browser.follow() == ["expired"]


def test_stream_of_an_ended_sign_in_repeats_the_end(countersign, browser):
    phone = countersign.device(USER)
    browser.start(USER)
    browser.enter(wrong(phone.approve().field("Code")))
    assert browser.follow() == ["wrong_number"]


def test_push_is_sent_again(countersign, browser):
    phone = countersign.device(USER, push="apn")
    browser.start(USER)
    first = countersign.pushes.wait(factor_sid=phone.factor_sid)
    countersign.pushes.clear()
    assert browser.resend().status_code == 204
    second = countersign.pushes.wait(factor_sid=phone.factor_sid)
    assert second["challenge_sid"] == first["challenge_sid"]


def test_newest_phone_is_asked(countersign, browser):
    countersign.device(USER)
    newest = countersign.device(USER)
    browser.start(USER)
    newest.approve()
    assert browser.state() == "approved"


@pytest.mark.parametrize("identity", [OTHER, "", "short", "../../../Services", "a" * 65, "nämlich-kein-name"])
def test_user_without_a_phone_is_refused(countersign, browser, identity):
    countersign.device(USER)
    refused = browser.start(identity)
    assert (refused.status_code, refused.json()) == (400, {"error": "There is no phone for this user name."})


def test_sign_in_belongs_to_its_browser(countersign, site, browser):
    phone = countersign.device(USER)
    browser.start(USER)
    phone.approve()
    stranger = site.browser()
    for response in (stranger.enter("00"), stranger.resend(), stranger._send("GET", "/login/events")):
        assert response.status_code == 404


def test_body_that_is_no_object_is_refused(countersign, browser):
    for body in ([], ["identity"], [{"identity": USER}]):
        assert browser._send("POST", "/login", body).status_code == 400


@pytest.mark.countersign_own_server
@pytest.mark.parametrize("status, page_status, text", [(429, 429, "Wait a minute"), (503, 502, "does not work at the moment")])
def test_refusal_by_the_server_has_a_sentence(countersign, browser, status, page_status, text):
    countersign.device(USER)
    challenges = {"method": "POST", "path": "/v2/*/Challenges"}
    countersign.chaos.set(api={"match": challenges, "next": 1, "status": status, "retry_after": 1})
    refused = browser.start(USER)
    assert refused.status_code == page_status
    assert text in refused.json()["error"]
    assert browser.start(USER).status_code == 200
