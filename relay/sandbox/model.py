# SPDX-License-Identifier: MIT
"""What passes between the HTTP server and the services behind it. Knows no socket, Entra ID or Graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_JSON = ("Content-Type", "application/json; charset=utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """What the stand-in knows of its tenant, and what it is allowed to do."""

    tenant_id: str = "sandbox"
    client_id: str = "00000000-0000-0000-0000-000000000001"
    client_secret: str = field(default="sandbox-secret", repr=False)
    client_certificate: str = ""  # PEM; assertions signed with its key are taken like the secret
    identity_header: str = field(default="", repr=False)  # of the managed identity endpoint; empty: there is none
    users: Mapping[str, str] | None = field(default=None, repr=False)  # login → password; None: any login is taken
    permissions: frozenset[str] = frozenset({"Mail.Send"})  # granted with consent, delegated or application
    token_lifetime_s: int = 3600
    control: bool = False  # the /_sandbox/ endpoints
    save_dir: Path | None = None  # where each message is kept as a file
    mailboxes: frozenset[str] | None = None  # None: any mailbox exists
    mailbox_concurrency: int = 0  # one more request at a time for a mailbox is throttled; 0: no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, read completely. Path segments are percent-decoded, header names in lower case."""

    method: str
    segments: tuple[str, ...]
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    request_id: str = ""

    @property
    def client_request_id(self) -> str:
        """The caller's own id for this request; ours when it gave none, as the real services do."""
        return self.headers.get("client-request-id") or self.request_id


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. The server adds request-id, client-request-id, Date and Content-Length."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(status: int, content: object, *headers: tuple[str, str]) -> Answer:
    """An answer whose body is this content as JSON."""
    return Answer(status, json.dumps(content).encode("ascii"), (_JSON, *headers))


def html_answer(status: int, title: str) -> Answer:
    """A gateway's error page: what stands there when the service behind it never answered."""
    page = f"<html><head><title>{title}</title></head><body><h1>{status} {title}</h1></body></html>"
    return Answer(status, page.encode("ascii"), (("Content-Type", "text/html"),))
