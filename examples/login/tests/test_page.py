"""Tests of the login page in Chromium."""

import os
import sys
from pathlib import Path

import pytest

sys.path.append(os.environ["BROWSER_TESTS"])

from webdriver import TOOLS, Browser as Chromium  # noqa: E402

USER = "user-0001"
pytestmark = pytest.mark.skipif(None in TOOLS and not os.environ.get("CI"), reason="missing chromium or chromedriver")


@pytest.fixture
def page(site, tmp_path):
    with Chromium(Path(tmp_path)) as page:
        page.open(site.url)
        yield page
        # The browser also logs refused requests: 404 when a new page looks for a sign-in, 400, and 429.
        assert [error for error in page.errors() if "status of 4" not in error] == []


def sign_in(page):
    page.type("#identity", USER)
    page.click("#start button")
    page.wait_for_text("#waiting h2", "Look at your phone")


def test_user_approves_and_enters_the_number(countersign, page):
    phone = countersign.device(USER)
    sign_in(page)
    number = phone.approve().field("Code")
    page.wait_for_text("#approved label", "Which number")
    assert page.evaluate("return document.activeElement.id") == "number"
    page.type("#number", number)
    page.click("#approved button")
    page.wait_for_text("#signed_in h2", f"Welcome, {USER}")
    page.open(page.evaluate("return location.href"))
    page.wait_for_text("#signed_in h2", f"Welcome, {USER}")
    page.click("#signed_in button")
    page.find("#start:not([hidden])")


def test_user_denies_and_starts_again(countersign, page):
    phone = countersign.device(USER)
    sign_in(page)
    phone.deny()
    page.wait_for_text("#ended h2", "You refused the sign-in")
    page.click("#ended button")
    page.type("#identity", USER)
    page.click("#start button")
    page.wait_for_text("#notice", "Wait a minute and try again.")


def test_reload_continues_the_sign_in(countersign, page):
    phone = countersign.device(USER)
    sign_in(page)
    page.open(page.evaluate("return location.href"))
    page.wait_for_text("#waiting h2", "Look at your phone")
    phone.approve()
    page.wait_for_text("#approved label", "Which number")


def test_push_can_be_sent_again(countersign, page):
    phone = countersign.device(USER, push="apn")
    sign_in(page)
    countersign.pushes.wait(factor_sid=phone.factor_sid)
    countersign.pushes.clear()
    page.click("#resend")
    page.wait_for_text("#notice", "Sent again")
    countersign.pushes.wait(factor_sid=phone.factor_sid)


@pytest.mark.without_streams
def test_page_learns_of_the_answer_without_streams(countersign, page):
    phone = countersign.device(USER)
    sign_in(page)
    phone.approve()
    page.wait_for_text("#approved label", "Which number")


@pytest.mark.countersign_own_server
def test_unanswered_sign_in_times_out(countersign, page):
    countersign.device(USER)
    sign_in(page)
    countersign.clock.advance(minutes=5, seconds=1)
    page.wait_for_text("#ended h2", "Nobody answered in time")


def test_unknown_user_is_told(page):
    page.type("#identity", "user-0002")
    page.click("#start button")
    page.wait_for_text("#notice", "There is no phone for this user name.")
