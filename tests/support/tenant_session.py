# SPDX-License-Identifier: MIT
"""The sandbox's tenant behind what looks like a requests.Session: Graph's logic without a socket, on a still clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from relay.clock import Deadline
from relay.credentials import Secret
from relay.identity import Credentials
from relay.sandbox.faults import Fault, Faults
from relay.sandbox.model import Answer, Request
from relay.sandbox.routes import fault_answer, find_route, make_routes, no_route_answer, split_path
from tests.unit.sandbox.tenant import Tenant

GRAPH_URL = "https://graph.example:8443"
LOGIN = Credentials("", Secret("app"))


@dataclass(frozen=True)
class Call:
    """One request that came."""

    kind: str
    url: str
    headers: dict[str, str]
    status: int  # 0: no answer
    timeout_s: float


class TenantResponse:
    def __init__(self, answer: Answer, request_id: str) -> None:
        self.status_code = answer.status
        self.content = answer.body
        self.headers = requests.structures.CaseInsensitiveDict([*answer.headers, ("request-id", request_id)])

    def close(self) -> None:
        pass


class TenantSession:
    """calls: what came, in order. faults: what is to fail. on_call: called with each kind of request before it."""

    def __init__(self, tenant: Tenant) -> None:
        self.headers = {"Accept": "application/json"}
        self.calls: list[Call] = []
        self.faults = Faults()
        self.on_call: Callable[[str], None] = lambda kind: None
        self._tenant = tenant
        self._routes = make_routes(tenant.entra, tenant.graph, None)

    def fault(self, **fault: Any) -> None:
        self.faults.add(Fault(**fault))

    def kinds(self) -> list[str]:
        return [call.kind for call in self.calls]

    def send(self, given: requests.PreparedRequest, **options: Any) -> TenantResponse:
        assert options["allow_redirects"] is False
        assert given.method is not None
        url = str(given.url)
        headers: dict[str, str] = dict(given.headers.items())
        body = b"".join(given.body or ())  # type: ignore[arg-type]  # pieces
        assert headers.get("Content-Length", "0") == str(len(body))
        parts = urlsplit(url)
        request = Request(
            method=given.method,
            segments=split_path(parts.path),
            query=parts.query,
            headers={
                "host": "graph.example:8443",
                "content-length": str(len(body)),
                **{name.lower(): value for name, value in headers.items()},
            },
            body=body,
            request_id=f"id-{len(self.calls) + 1}",
        )
        route = find_route(self._routes, request)
        kind = route.kind if route else "none"
        self.on_call(kind)
        answer = (
            self._answer(kind, route.handle, request)
            if route
            else no_route_answer(self._routes, request, self._tenant.clock.now())
        )
        status = answer.status if answer else 0
        self.calls.append(Call(kind, url, headers, status, options["timeout"][1]))
        if answer is None:
            raise requests.ConnectionError("reset")
        return TenantResponse(answer, request.request_id)

    def _answer(self, kind: str, handle: Callable[[Request], Answer], request: Request) -> Answer | None:
        fault = self.faults.take(kind, [""]).fault or Fault()
        answer = handle(request) if fault.accept else None
        if fault.reset or fault.hang:
            return None
        if fault.status:
            return fault_answer(fault, kind, request, self._tenant.clock.now())
        return answer or handle(request)


class TenantTokens:
    """The app's token; revoked ones are not given again."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._token = Secret("")
        self.revoked = 0

    def get(self, login: Credentials, deadline: Deadline) -> Secret:
        if not self._token:
            self._token = Secret(self._tenant.app_token())
        return self._token

    def revoke(self, login: Credentials, token: Secret) -> None:
        self.revoked += 1
        self._token = Secret("")
