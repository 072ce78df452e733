# SPDX-License-Identifier: MIT
"""The admin side as one WSGI function: /, /state.json, /metrics, /healthz, /readyz, and the sandbox's mails.

Reads stats.py and the callables it is given; changes nothing. Knows no gevent: server.py puts it on a port.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from relay.admin.live import Live, Mail
from relay.admin.metrics import CONTENT_TYPE, Metrics
from relay.admin.page import mail_page, page
from relay.admin.view import view
from relay.clock import Clock
from relay.credentials import Secret, verify_password
from relay.stats import Stats

log = logging.getLogger(__name__)

_HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# A caught mail's HTML: nothing of it runs, loads or leaves, and it has no origin to reach the page from.
_MAIL_CSP = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
_OPEN_PATHS = ("/healthz", "/readyz")  # no password, any Host: they tell nothing but yes or no
_HOST = re.compile(r"(\[[^\]]+\]|[^:\[\]]+)(?::[0-9]*)?")  # RFC 9110 §7.2
_MOST_PASSWORDS = 16
_LONGEST_QUERY = 1000
_FIRST_LOOK_S = 10.0  # from the start on; by then Graph has been asked once


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes | str
    content_type: str = _TEXT
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    csp: str = _CSP


class Admin:
    """The WSGI function, with what it needs to know."""

    def __init__(
        self,
        stats: Stats,
        live: Live,
        password_hash: Secret,
        hosts: Sequence[str],
        clock: Clock,
        verify: Callable[[str, str], bool] = verify_password,
    ) -> None:
        """hosts: names by which the page may be asked for, besides loopback names and IP addresses.

        verify: password and hash → whether they fit; slow by design, so the caller may run it in a thread.
        """
        self._stats = stats
        self._live = live
        self._clock = clock
        self._metrics = Metrics(stats, live)
        self._hosts = frozenset(host.casefold() for host in hosts if host)
        self._password = _Password(password_hash, verify)
        self._pages: dict[str, Callable[[dict[str, str]], _Answer]] = {
            "/": self._page,
            "/state.json": self._state,
            "/admin.css": lambda _: _Answer(_file("admin.css"), "text/css; charset=utf-8"),
            "/admin.js": lambda _: _Answer(_file("admin.js"), "text/javascript; charset=utf-8"),
            "/metrics": lambda _: _Answer(self._metrics.render(), CONTENT_TYPE),
            "/healthz": lambda _: _Answer("ok\n"),
            "/readyz": self._ready,
        }

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except Exception:  # a bug costs this request, nothing else
            log.exception("admin_fault")
            answer = _Answer("a fault of the relay; see admin_fault in the log\n", status=500)
        octets = answer.body if isinstance(answer.body, bytes) else answer.body.encode("utf-8", "replace")
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(octets))),
            ("Content-Security-Policy", answer.csp),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
            *answer.headers,
        ]
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [octets]

    def _answer(self, environ: dict[str, Any]) -> _Answer:
        path = str(environ.get("PATH_INFO") or "/")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _Answer("only GET and HEAD\n", status=405, headers=(("Allow", "GET, HEAD"),))
        if path not in _OPEN_PATHS:
            refusal = self._refusal(environ)
            if refusal is not None:
                return refusal
        if path in self._pages:
            return self._pages[path](_query(environ))
        if self._live.mails is not None and path.startswith("/mails/"):
            return _mail(self._live.mails(), path)
        return _Answer("no such page\n", status=404)

    def _refusal(self, environ: dict[str, Any]) -> _Answer | None:
        if not self._is_ours(str(environ.get("HTTP_HOST", ""))):
            return _Answer("this name is not known here; set hostname in the configuration to it\n", status=421)
        if self._password.admits(str(environ.get("HTTP_AUTHORIZATION", ""))):
            return None
        if environ.get("HTTP_AUTHORIZATION"):
            client = str(environ.get("REMOTE_ADDR", ""))
            facts = {"client": client, "reason": "the password of the admin page was wrong"}
            log.warning("admin_login_failed", extra=facts)
            self._stats.problem("admin_login_failed", facts)
        challenge = ("WWW-Authenticate", 'Basic realm="graph-smtp-relay", charset="UTF-8"')
        return _Answer("a password is needed; any user name will do\n", status=401, headers=(challenge,))

    def _is_ours(self, host: str) -> bool:
        """Against DNS rebinding: a foreign page's name must not lead here, even when it resolves to this machine.

        An IP address is nobody's name, and a request without Host comes from no browser.
        """
        if not host:
            return True
        found = _HOST.fullmatch(host)
        name = found[1].casefold().rstrip(".") if found else ""
        if name == "localhost" or name.endswith(".localhost") or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _page(self, query: dict[str, str]) -> _Answer:
        words, result = query.get("q", ""), query.get("result", "")
        return _Answer(page(view(self._stats, self._live, words, result), words, result), _HTML)

    def _state(self, query: dict[str, str]) -> _Answer:
        shown = view(self._stats, self._live, query.get("q", ""), query.get("result", ""))
        return _Answer(json.dumps(shown), "application/json")

    def _ready(self, _: dict[str, str]) -> _Answer:
        """Who asks before the first look upstream has ended waits for it: neither answer would be true yet."""
        while self._stats.services["graph"].answered is None and self._stats.uptime_s() < _FIRST_LOOK_S:
            self._clock.sleep(0.05)
        ready = self._stats.ready()
        return _Answer("ready\n" if ready else "not ready\n", status=200 if ready else 503)


class _Password:
    """Basic authentication (RFC 7617) against one scrypt hash, with a small memory of what was right."""

    def __init__(self, password_hash: Secret, verify: Callable[[str, str], bool]) -> None:
        self._hash = password_hash
        self._verify = verify
        self._key = os.urandom(32)
        self._good: set[bytes] = set()
        self._one_at_a_time = threading.Lock()  # or guesses would take every core

    def admits(self, authorization: str) -> bool:
        """Whether this header's value holds the password; any user name will do."""
        if not self._hash:
            return True
        scheme, _, value = authorization.partition(" ")
        if scheme.casefold() != "basic":
            return False
        try:
            password = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, ValueError):
            return False
        digest = hmac.digest(self._key, password.encode("utf-8"), "sha256")
        if digest in self._good:
            return True
        with self._one_at_a_time:
            fits = self._verify(password, self._hash.reveal())
        if fits and len(self._good) < _MOST_PASSWORDS:
            self._good.add(digest)
        return fits


def _query(environ: dict[str, Any]) -> dict[str, str]:
    text = str(environ.get("QUERY_STRING", ""))[:_LONGEST_QUERY]
    return {name: values[0] for name, values in parse_qs(text, errors="replace").items()}


def _mail(mails: Sequence[Mail], path: str) -> _Answer:
    """/mails/NUMBER; /mails/NUMBER/html for the frame in it, /mails/NUMBER/source for what Graph got."""
    number, _, part = path.removeprefix("/mails/").partition("/")
    found = next((mail for mail in mails if str(mail["number"]) == number), None)
    if found is None or part not in ("", "html", "source"):
        return _Answer("no such mail\n", status=404)
    if part == "source" and callable(source := found["source"]):
        return _Answer(str(source()))
    if part:
        return _Answer(str(found["html"]), _HTML, csp=_MAIL_CSP)
    return _Answer(mail_page(found), _HTML)


def _file(name: str) -> bytes:
    return (files("relay.admin") / name).read_bytes()
