# SPDX-License-Identifier: MIT
"""Paths to endpoints, and what the control endpoints say, without a socket."""

from __future__ import annotations

import json
from collections import deque
from datetime import UTC, datetime

import pytest

from relay.sandbox.control import Control, Stats
from relay.sandbox.faults import Faults
from relay.sandbox.model import Request
from relay.sandbox.routes import find_route, make_routes, no_route_answer, split_path
from tests.unit.sandbox.tenant import Tenant, payload

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class ControlledTenant(Tenant):
    """With the control endpoints, as the server puts them together."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = Faults()
        self.stats = Stats()
        kept = deque(self.captured)
        self.control = Control(
            kept, lambda: 7, self.faults, self.stats, self.tokens, kept.clear, lambda: None, lambda: None
        )
        self.kept = kept


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1.0/users/a@example.com/sendMail", "sendMail"),
        ("POST", "/v1.0/users/a%2Fb@example.com/sendMail", "sendMail"),
        ("POST", "/v1.0/me/sendMail", "sendMail"),
        ("POST", "/sandbox/oauth2/v2.0/token", "token"),
        ("GET", "/common/userrealm/a@example.com", "realm"),
        ("GET", "/x/v2.0/.well-known/openid-configuration", "openid"),
        ("GET", "/common/discovery/instance", "instance"),
        ("POST", "/adfs/services/trust/2005/usernamemixed", "wsTrust"),
        ("GET", "/v1.0/me/sendMail", 405),
        ("POST", "/v1.0/users/a/b@example.com/sendMail", 400),
        ("GET", "/", 404),
        ("GET", "/_sandbox/stats", 404),
    ],
)
def test_routes(tenant: Tenant, method: str, path: str, kind: str | int) -> None:
    routes = make_routes(tenant.entra, tenant.graph, None)
    request = Request(method=method, segments=split_path(path))
    route = find_route(routes, request)
    assert (route.kind if route else no_route_answer(routes, request, NOW).status) == kind


def test_segments_are_decoded_after_the_split() -> None:
    assert split_path("/v1.0/users/o%27b%2Fx%23%2B@m%C3%BC.example/sendMail")[2] == "o'b/x#+@mü.example"


def test_control_lists_messages_by_number() -> None:
    tenant = ControlledTenant()
    for _ in range(3):
        tenant.send(payload())
    tenant.kept.extend(tenant.captured)

    def numbers(query: str) -> list[int]:
        answer = tenant.control.list_messages(Request(method="GET", segments=(), query=query))
        return [item["number"] for item in json.loads(answer.body)]

    assert numbers("") == [5, 6, 7]
    assert numbers("after=6") == [7]
    bad = tenant.control.list_messages(Request(method="GET", segments=(), query="after=x"))
    assert bad.status == 400


def test_control_counts_what_runs_at_a_time() -> None:
    tenant = ControlledTenant()
    for mailbox in ("a", "a", "b", ""):
        tenant.stats.began(mailbox)
    for mailbox in ("a", "a", "b", ""):
        tenant.stats.ended(mailbox, "sendMail", 202)
    answer = tenant.control.show_stats(Request(method="GET", segments=()))
    assert json.loads(answer.body) == {
        "requests": {"sendMail": {"202": 4}},
        "max_concurrent": {"a": 2, "b": 1},
        "messages": 7,
    }


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"status": 500}, {"status": 1}]'])
def test_control_takes_all_faults_or_none(body: bytes) -> None:
    tenant = ControlledTenant()
    answer = tenant.control.add_faults(Request(method="POST", segments=(), body=body))
    assert answer.status == 400
    assert tenant.faults.take("sendMail", []).fault is None


def test_control_reset() -> None:
    tenant = ControlledTenant()
    token = tenant.user_token()
    request = Request(method="POST", segments=(), body=b'[{"status": 500}]')
    assert tenant.control.add_faults(request).status == 204
    tenant.stats.ended("", "token", 200)
    assert tenant.control.reset(request).status == 204
    assert tenant.faults.take("sendMail", []).fault is None
    assert tenant.tokens.find(token) is None
    assert not tenant.stats.requests
