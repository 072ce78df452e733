# SPDX-License-Identifier: MIT
"""One tenant without a socket: Entra ID and Graph on a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from relay.clock import Clock
from relay.sandbox.capture import Captured
from relay.sandbox.entra import Entra
from relay.sandbox.graph import Graph
from relay.sandbox.model import Answer, Request, SandboxSettings
from relay.sandbox.tokens import Tokens

URL = "https://127.0.0.1:8443"
USER = "scanner@example.com"
FORM = {"content-type": "application/x-www-form-urlencoded"}


class StillClock(Clock):
    """Moves only when it is told to."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.elapsed

    def now(self) -> datetime:
        return datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC) + timedelta(seconds=self.elapsed)


class Tenant:
    """Entra and Graph with the same tokens, and what they captured."""

    def __init__(self, **settings: Any) -> None:
        self.settings = SandboxSettings(**settings)
        self.clock = StillClock()
        self.tokens = Tokens(self.clock)
        self.entra = Entra(self.settings, URL, self.tokens, self.clock)
        self.captured: list[Captured] = []
        self.graph = Graph(self.settings, self.tokens, self.clock, self.captured.append)

    def ask_token(
        self, tenant: str = "sandbox", headers: Mapping[str, str] | None = None, **fields: str | None
    ) -> tuple[int, dict[str, Any]]:
        """Status and body for a password grant, with these fields changed, or left out where they are None."""
        form: dict[str, str | None] = {
            "grant_type": "password",
            "client_id": self.settings.client_id,
            "client_secret": self.settings.client_secret,
            "username": USER,
            "password": "secret",
            "scope": f"{URL}/.default openid profile offline_access",
            "client_info": "1",
            **fields,
        }
        body = urlencode({name: value for name, value in form.items() if value is not None}).encode("ascii")
        request = Request(
            method="POST",
            segments=(tenant, "oauth2", "v2.0", "token"),
            headers={**FORM, **(headers or {})},
            body=body,
            request_id="r-1",
        )
        answer = self.entra.token(request)
        return answer.status, json.loads(answer.body)

    def app_token(self) -> str:
        status, content = self.ask_token(
            grant_type="client_credentials", username=None, password=None, scope=f"{URL}/.default"
        )
        assert status == 200
        return str(content["access_token"])

    def user_token(self, user: str = USER) -> str:
        status, content = self.ask_token(username=user)
        assert status == 200
        return str(content["access_token"])

    def post(
        self,
        body: bytes,
        *,
        mailbox: str = USER,
        content_type: str = "application/json",
        token: str | None = None,
    ) -> Answer:
        """What sendMail answers; with the user's own token unless another one is given, or "" for none."""
        headers = {"content-type": content_type, "client-request-id": "c-1", "user-agent": "test"}
        value = self.user_token() if token is None else token
        if value:
            headers["authorization"] = f"Bearer {value}"
        path = ("v1.0", "users", mailbox, "sendMail") if mailbox else ("v1.0", "me", "sendMail")
        request = Request(method="POST", segments=path, headers=headers, body=body, request_id="r-1")
        return self.graph.send_mail(request)

    def send(self, content: object, **options: Any) -> tuple[int, str]:
        """Status and error code (empty: none) for a JSON payload."""
        return outcome(self.post(json.dumps(content).encode("utf-8"), **options))


def outcome(answer: Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["error"]["code"] if answer.body else ""


def recipient(address: str, name: str | None = None) -> dict[str, Any]:
    return {"emailAddress": {"address": address} if name is None else {"address": address, "name": name}}


def payload(**properties: Any) -> dict[str, Any]:
    """A valid payload with these properties of the message set; None leaves one out."""
    message: dict[str, Any] = {
        "subject": "Scan",
        "body": {"contentType": "text", "content": "Grüße\n"},
        "toRecipients": [recipient("a@example.com", "A")],
        **properties,
    }
    present = {name: value for name, value in message.items() if value is not None}
    return {"message": present, "saveToSentItems": False}
