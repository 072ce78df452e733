# SPDX-License-Identifier: MIT
"""The admin page in a real browser (Debian's Chromium, driven by playwright from PyPI)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Login, need
from tests.e2e.test_admin import address, send
from tests.support.relay_process import RelayProcess
from tests.support.sandbox_client import Upstream

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing (PyPI)")

CHROMIUM = "/usr/bin/chromium"
HOSTILE = '"<script>document.title=1</script><img/src=x>"@example.com'


@pytest.fixture(scope="module")
def relay_keys() -> dict[str, Any]:
    return {"admin_addr": "127.0.0.1:0", "retry_attempts": 1, "secret_expires": "2026-12-24"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    need(CHROMIUM, "chromium")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Page:
    """A page that was looked at: what it asked for, and what its console said."""

    def __init__(self, browser: Any, where: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.asked: set[str] = set()
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda fault: self.said.append(str(fault)))
        self.page.goto(f"http://{where}/")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def has_rows(self, count: int) -> None:
        """Waits for it. By a locator: the page's policy forbids the driver to evaluate text."""
        playwright.expect(self.page.locator("#messages tr")).to_have_count(count, timeout=20_000)

    def rows(self, body: str = "messages") -> list[list[str]]:
        found = self.page.locator(f"#{body} tr").all()
        return [row.locator("td").all_text_contents() for row in found]


def send_some(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    assert send(relay, login) == 250
    upstream.fault(kind="sendMail", status=403, code="ErrorSendAsDenied")
    assert send(relay, login) == 550
    upstream.fault(kind="sendMail", status=429)
    assert send(relay, login) == 451
    with relay.smtp(login.user, login.password) as client:
        assert client.docmd("MAIL", f"FROM:<{HOSTILE}>")[0] == 250
        client.rcpt("you@example.org")
        assert client.data("Subject: x\r\n\r\nText.\r\n")[0] == 250


def test_it_updates_itself_and_filters(browser: Any, relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    where = address(relay)
    with Page(browser, where) as seen:
        before = len(seen.rows())
        send_some(relay, upstream, login)
        seen.has_rows(before + 4)
        assert seen.page.title() in ("graph-smtp-relay: healthy", "graph-smtp-relay: degraded")
        assert HOSTILE in [row[3] for row in seen.rows()], "a hostile sender is text"
        assert seen.page.locator("#messages script, #messages img").count() == 0
        assert "ErrorSendAsDenied" in [row[3] for row in seen.rows("problems")]
        seen.page.fill("input[name=q]", login.user)
        seen.page.select_option("select", "deferred")
        seen.has_rows(1)
        assert seen.rows()[0][9] == "deferred 451 4.4.5"
        assert seen.said == [], "nothing was blocked, nothing failed"
        assert {url.split("/")[2] for url in seen.asked if url.startswith("http")} == {where}


def test_without_javascript(browser: Any, relay: RelayProcess, login: Login) -> None:
    assert send(relay, login) == 250
    with Page(browser, address(relay), java_script_enabled=False) as seen:
        seen.page.fill("input[name=q]", login.user)
        seen.page.click("button")
        assert [row[3] for row in seen.rows()] == [login.user]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("light", {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}}),
        ("dark", {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}}),
        ("phone", {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "is_mobile": True}),
    ],
)
def test_nothing_sticks_out(
    browser: Any, relay: RelayProcess, upstream: Upstream, login: Login, name: str, options: Any
) -> None:
    """GSR_SCREENSHOTS names a directory for pictures to look at."""
    send_some(relay, upstream, login)
    with Page(browser, address(relay), **options) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if directory := os.environ.get("GSR_SCREENSHOTS"):
            seen.page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)
