# SPDX-License-Identifier: MIT
"""The admin side as a WSGI function, without a socket: what it shows, to whom, and that nothing in it can run."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.admin.live import Live, Mail
from relay.admin.view import duration, size
from relay.admin.wsgi import Admin
from relay.credentials import Secret, hash_password
from relay.stats import Stats
from tests.support.clock import FakeClock
from tests.support.dialog import all_records
from tests.unit.test_stats import facts

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>@example.com"
MAIL: Mail = {
    "number": 7,
    "at": "2026-03-01 12:00:00",
    "from": HOSTILE,
    "mailbox": "m@example.com",
    "form": "json",
    "to": "a@example.com",
    "cc": "",
    "bcc": "",
    "subject": "<b>Subject</b>",
    "text": "</pre><script>alert(1)</script>",
    "html": "<script>alert(1)</script><p>Hello</p>",
    "attachments": [("<i>.pdf", "application/pdf", 3)],
    "source": lambda: '{"subject": "<b>Subject</b>"}',
}


class Answer:
    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = int(status.split()[0])
        self.headers = dict(headers)
        self.text = body.decode("utf-8")
        assert len(headers) == len(self.headers), "a header twice"


class Site:
    def __init__(self, clock: FakeClock, password: str = "", mails: Sequence[Mail] | None = None) -> None:
        self.stats = Stats(clock)
        live = Live(lambda: 3, lambda: 100, lambda: 4096, lambda: 2, None if mails is None else lambda: mails)
        self.verified: list[str] = []
        self.admin = Admin(
            self.stats,
            live,
            Secret(hash_password(password) if password else ""),
            ("relay.example", ""),
            clock,
            lambda given, _: self.verified.append(given) is None and given == password,
        )

    def get(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        host: str = "localhost:2527",
        authorization: str = "",
        **query: str,
    ) -> Answer:
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": urlencode(query), "HTTP_HOST": host}
        environ |= {"HTTP_AUTHORIZATION": authorization} if authorization else {}
        environ |= {"REMOTE_ADDR": "192.0.2.1"}
        began: list[Any] = []
        body = b"".join(self.admin(environ, lambda *given: began.extend(given)))
        return Answer(*began, body)

    def state(self, **query: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/state.json", **query).text)
        return found


@pytest.fixture
def site(clock: FakeClock) -> Site:
    return Site(clock)


class Tags(HTMLParser):
    """What a browser makes of a page: its elements, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def basic(password: str, user: str = "admin") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


# What it shows


def test_every_answer_says_what_a_browser_may_do_with_it(site: Site) -> None:
    for path in ("/", "/state.json", "/admin.css", "/admin.js", "/metrics", "/healthz", "/readyz", "/nothing"):
        headers = site.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in headers


def test_nothing_a_client_says_becomes_markup(site: Site) -> None:
    clean = Tags(site.get().text)
    site.stats.message("rejected", facts(sender=HOSTILE, user=HOSTILE, client=HOSTILE, reason=HOSTILE), (HOSTILE,))
    site.stats.problem("auth_failed", facts(user=HOSTILE, reason=HOSTILE))
    shown = Tags(site.get().text)
    assert HOSTILE in shown.words
    assert [tag for tag, _ in shown.found].count("script") == [tag for tag, _ in clean.found].count("script") == 1
    assert not [tag for tag, _ in shown.found if tag in ("img", "iframe")]
    assert not [
        name for _, attributes in shown.found for name in attributes if name.startswith("on") or name == "style"
    ]
    assert {"class": "rejected"} in [attributes for tag, attributes in shown.found if tag == "tr"]


def test_a_hostile_search_stays_in_its_field(site: Site) -> None:
    shown = Tags(site.get(q=HOSTILE, result='"><script>').text)
    assert [attributes["value"] for tag, attributes in shown.found if tag == "input"] == [HOSTILE]
    assert len([tag for tag, _ in shown.found if tag == "script"]) == 1


def test_the_page_asks_no_other_host(site: Site) -> None:
    for path in ("/", "/admin.css", "/admin.js"):
        assert not re.search(r"https?://|//[a-z]|url\(|@import", site.get(path).text.replace("// ", "")), path


def test_the_page_works_without_javascript(site: Site) -> None:
    site.stats.message("delivered", facts(), ("a@example.org",))
    html = site.get().text
    assert '<noscript><meta http-equiv="refresh"' in html
    assert "a@example.org and 1 more" in html
    assert "healthy" in html


def test_page_and_state_show_the_same(site: Site) -> None:
    site.stats.message("deferred", facts(reason="Graph is busy", reply="451 4.4.1"), ("a@example.org",))
    state, words = site.state(), Tags(site.get().text).words
    for row in (*state["figures"], *state["messages"], *state["problems"]):
        for cell in row:
            assert cell in words


def test_the_filter(site: Site) -> None:
    site.stats.message("delivered", facts(sender="anna@example.com", message_id="AAAA"), ("x@example.org",))
    site.stats.message("rejected", facts(sender="bert@example.com", reply="550 5.1.3"), ("y@example.org",))
    assert [row[3] for row in site.state()["messages"]] == ["bert@example.com", "anna@example.com"]
    assert [row[3] for row in site.state(q="ANNA x@example.org")["messages"]] == ["anna@example.com"]
    assert [row[3] for row in site.state(q="aaaa")["messages"]] == ["anna@example.com"]
    assert [row[3] for row in site.state(result="rejected")["messages"]] == ["bert@example.com"]
    assert site.state(q="anna", result="rejected")["messages"] == []
    assert "bert@" not in site.get(q="anna").text


def test_the_chart(site: Site, clock: FakeClock) -> None:
    site.stats.message("delivered", facts())
    clock.advance(60)
    site.stats.message("delivered", facts())
    site.stats.message("rejected", facts())
    chart = site.state()["chart"]
    assert chart["peak"] == 2
    assert chart["paths"]["delivered"] == "M178 30.0h1v30.0h-1zM179 30.0h1v30.0h-1z"
    assert chart["paths"]["rejected"] == "M179 0.0h1v30.0h-1z"


def test_degraded_says_why(site: Site) -> None:
    site.stats.token_failed("the client secret has expired")
    assert site.state()["state"] == "degraded"
    assert "the client secret has expired" in Tags(site.get().text).words


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (size(0), "0 B"),
        (size(1500), "1.5 kB"),
        (size(25_000_000), "25.0 MB"),
        (size(2 * 10**9), "2.0 GB"),
        (duration(59), "59 s"),
        (duration(120), "2 min"),
        (duration(7200), "2 h"),
        (duration(200_000), "2 d"),
    ],
)
def test_short_forms(shown: str, expected: str) -> None:
    assert shown == expected


# Who may see it


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:2527",
        "app.localhost:1",
        "127.0.0.1:2527",
        "[::1]:2527",
        "192.168.1.5",
        "relay.example:80",
        "",
    ],
)
def test_hosts_that_are_ours(site: Site, host: str) -> None:
    assert site.get(host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:2527", "localhost.evil.example", "127.0.0.1.evil.example", "[::1].evil", "1.2"],
)
def test_dns_rebinding(site: Site, host: str) -> None:
    assert site.get(host=host).status == 421
    assert site.get("/metrics", host=host).status == 421
    assert site.get("/healthz", host=host).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(site: Site, method: str) -> None:
    answer = site.get(method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_head_has_no_body(site: Site) -> None:
    answer = site.get(method="HEAD")
    assert (answer.status, answer.text) == (200, "")
    assert int(answer.headers["Content-Length"]) > 0


def test_the_password(clock: FakeClock) -> None:
    site = Site(clock, password="Schlüssel:1")
    for path in ("/", "/state.json", "/metrics", "/admin.js", "/nothing"):
        refused = site.get(path)
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    assert site.stats.events == {}, "a browser that asks for the first time has not failed"
    for user in ("admin", "", "anyone"):
        assert site.get(authorization=basic("Schlüssel:1", user)).status == 200
    assert site.verified == ["Schlüssel:1"], "a good password is remembered"
    assert site.get("/healthz").status == site.get("/healthz", authorization="Basic nonsense").status == 200


@pytest.mark.parametrize("authorization", [basic("wrong"), "Basic !", "Basic", "Bearer x", basic(""), "Basic /w=="])
def test_a_wrong_password(clock: FakeClock, authorization: str) -> None:
    site = Site(clock, password="right")
    with all_records() as records:
        assert site.get(authorization=authorization).status == 401
    (record,) = records
    assert (record.getMessage(), record.levelname) == ("admin_login_failed", "WARNING")
    assert "wrong" not in str(record.__dict__).replace("the password of the admin page was wrong", "")
    assert site.stats.events["admin_login_failed"] == 1


def test_a_fault_costs_one_request(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.admin.wsgi.view", lambda *_: 1 / 0)
    with all_records() as records:
        assert site.get().status == 500
    assert [record.getMessage() for record in records] == ["admin_fault"]
    assert site.get("/healthz").status == 200


# What machines ask for


def metrics(site: Site) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = site.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name.removeprefix("graph_smtp_relay_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics(site: Site, clock: FakeClock) -> None:
    site.stats.message("delivered", facts())
    site.stats.message("deferred", facts(reply="451 4.4.5", size_bytes=2_000_000))
    site.stats.upstream("graph", 202, 0.2)
    site.stats.upstream("entra", 0, 30.5)
    site.stats.token_fetched()
    site.stats.secret_expires = clock.now().date() + timedelta(days=2)
    clock.advance(10)
    found = metrics(site)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    assert value("messages_total", result="delivered", reply="250 2.0.0") == 1
    assert value("messages_total", result="deferred", reply="451 4.4.5") == 1
    assert value("messages_total", result="rejected", reply="") == 0
    assert value("events_total", event="deferred") == 1
    assert value("message_size_bytes_bucket", le="100000.0") == 1
    assert value("message_size_bytes_bucket", le="+Inf") == value("message_size_bytes_count") == 2
    assert value("message_size_bytes_sum") == 2_012_000
    assert value("upstream_requests_total", service="graph", status="202") == 1
    assert value("upstream_requests_total", service="entra", status="none") == 1
    assert value("upstream_request_duration_seconds_bucket", service="graph", le="0.25") == 1
    assert value("upstream_request_duration_seconds_sum", service="entra") == 30.5
    assert (value("connections"), value("inflight_bytes"), value("tokens")) == (3, 4096, 2)
    assert value("token_age_seconds") == 10
    assert value("secret_expiry_seconds") == 2 * 86400 - 12 * 3600 - 10
    assert value("ready") == 1
    assert found["process_resident_memory_bytes", frozenset()] > 0


def test_metrics_before_anything_happened(site: Site) -> None:
    names = {name for name, _ in metrics(site)}
    assert {"messages_total", "connections", "ready", "build_info"} <= names
    assert not {"token_age_seconds", "secret_expiry_seconds"} & names


def test_waiting_adds_up(site: Site) -> None:
    for waited_ms in (1500, 0, 500):
        site.stats.message("delivered", facts() | {"waited_ms": waited_ms})
    assert metrics(site)["throttled_seconds_total", frozenset()] == 2.0
    assert "answers 429; 2 s waited in all" in site.get().text


def test_alarming_events_are_there_before_the_first(site: Site) -> None:
    """Prometheus sees no increase in a counter that begins with 1."""
    assert metrics(site)["events_total", frozenset({("event", "auth_unavailable")})] == 0


def test_two_relays_in_one_process_do_not_mix(clock: FakeClock) -> None:
    first, second = Site(clock), Site(clock)
    first.stats.message("delivered", facts())
    assert ("messages_total", frozenset({("result", "delivered"), ("reply", "250 2.0.0")})) not in metrics(second)


def test_health_and_readiness(site: Site) -> None:
    assert site.get("/healthz").status == 200
    assert site.get("/readyz").status == 503, "Graph was not asked in time"
    site.stats.upstream("graph", 401, 0.1)
    assert site.get("/readyz").status == 200


@pytest.mark.parametrize(("status", "answer"), [(401, 200), (0, 503), (503, 503)])
def test_readiness_waits_for_the_first_look(site: Site, clock: FakeClock, status: int, answer: int) -> None:
    """And for that alone: whoever asks later gets what is known."""
    sleep = clock.sleep

    def look_at_last(seconds: float) -> None:
        sleep(seconds)
        if len(clock.sleeps) == 3:
            site.stats.upstream("graph", status, 0.1)

    clock.sleep = look_at_last  # type: ignore[method-assign]
    assert site.get("/readyz").status == answer
    assert len(clock.sleeps) == 3
    assert site.get("/readyz").status == answer
    assert len(clock.sleeps) == 3


# What the sandbox caught


def test_mails_only_in_the_sandbox(site: Site) -> None:
    assert site.get("/mails/7").status == 404
    assert 'id="mails"' not in site.get().text


def test_a_caught_mail(clock: FakeClock) -> None:
    site = Site(clock, mails=[MAIL])
    assert "&lt;b&gt;Subject" in site.get().text
    shown = Tags(site.get("/mails/7").text)
    assert str(MAIL["text"]) in shown.words
    assert "<i>.pdf (application/pdf, 3 octets)" in shown.words
    frames = [attributes for tag, attributes in shown.found if tag == "iframe"]
    assert frames == [{"sandbox": None, "src": "/mails/7/html", "title": "the HTML body"}]
    assert not [tag for tag, _ in shown.found if tag == "script"]
    html = site.get("/mails/7/html")
    assert html.text == MAIL["html"]
    assert html.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none';")
    source = site.get("/mails/7/source")
    assert source.text == '{"subject": "<b>Subject</b>"}'
    assert source.headers["Content-Type"].startswith("text/plain"), "and so no browser takes it for a page"
    assert "cc" not in shown.words, "what is empty is not shown"
    for path in ("/mails/8", "/mails/", "/mails/7/other", "/mails/7/html/x"):
        assert site.get(path).status == 404
