# SPDX-License-Identifier: MIT
"""Which scripted fault strikes which request, and what it says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from relay.sandbox.faults import FOR_EVER, Fault, Faults, Verdict, parse_fault
from relay.sandbox.model import Request
from relay.sandbox.routes import fault_answer

NOW = datetime(2026, 3, 1, tzinfo=UTC)
REQUEST = Request(method="POST", segments=("v1.0", "me", "sendMail"), request_id="r-1")


def test_in_order_and_as_often_as_told() -> None:
    faults = Faults()
    faults.add(Fault(status=503, count=2), Fault(status=429), Fault(status=500, count=0))
    found = [faults.take("sendMail", []).fault for _ in range(4)]
    assert [fault.status if fault else 0 for fault in found] == [503, 503, 429, 0]


def test_for_ever_and_cleared() -> None:
    faults = Faults()
    faults.add(Fault(status=503, count=FOR_EVER))
    assert all(faults.take("token", []).fault for _ in range(50))
    faults.clear()
    assert faults.take("token", []) == Verdict()


def test_by_kind_and_by_name() -> None:
    faults = Faults()
    faults.add(Fault(kind="sendMail", user="A@example.com", status=429))
    assert faults.take("token", ["a@example.com"]).fault is None
    assert faults.take("sendMail", ["b@example.com"]).fault is None
    assert faults.take("sendMail", ["b@example.com", "a@EXAMPLE.com"]).fault is not None


def test_latency_stands_beside_a_fault() -> None:
    latency, slow = Fault(count=FOR_EVER, delay_s=0.2), Fault(status=503, delay_s=1.0)
    faults = Faults()
    faults.add(latency, slow)
    assert faults.take("sendMail", []) == Verdict(1.2, False, slow)
    assert faults.take("sendMail", []) == Verdict(0.2)


def test_a_hold_stands_beside_a_fault() -> None:
    hold, denied = Fault(hold=True), Fault(status=403)
    faults = Faults()
    faults.add(hold, denied)
    assert faults.take("sendMail", []) == Verdict(0.0, True, denied)
    assert faults.take("sendMail", []) == Verdict()


def test_a_reset_before_the_body_waits_its_turn() -> None:
    faults = Faults()
    faults.add(Fault(count=FOR_EVER, delay_s=0.2), Fault(status=429), Fault(reset="before_body"))
    assert not faults.resets_before_body("sendMail", [])
    assert faults.take("sendMail", []).fault == Fault(status=429)
    assert faults.resets_before_body("sendMail", [])
    assert not faults.resets_before_body("sendMail", [])


def test_parse_fault() -> None:
    parsed = parse_fault({"kind": "sendMail", "status": 504, "delay_s": 1, "accept": True})
    assert parsed == Fault(kind="sendMail", status=504, delay_s=1.0, accept=True)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"statsu": 500}, "statsu: no such field"),
        ({"status": "500"}, "status: int expected"),
        ({"status": True}, "status: int expected"),
        ({"retry_after": 5}, "retry_after: str expected"),
        ({"status": 99}, "status: not 99"),
        ({"reset": "sometime"}, "reset: not"),
        ({"body": "xml"}, "body: not"),
        ({"reset": "before_body", "accept": True}, "cannot be accepted"),
        ({"reset": "before_body", "delay_s": 1}, "does not read"),
        ({"reset": "before_body", "kind": "token", "user": "a@b"}, "stands in its body"),
    ],
)
def test_a_fault_that_makes_no_sense(content: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_fault(content)


def test_graphs_answer() -> None:
    answer = fault_answer(Fault(status=429), "sendMail", REQUEST, NOW)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (429, "ApplicationThrottled")
    named = fault_answer(Fault(status=403, code="ErrorSendAsDenied"), "sendMail", REQUEST, NOW)
    assert json.loads(named.body)["error"]["code"] == "ErrorSendAsDenied"


def test_entras_answer() -> None:
    answer = fault_answer(Fault(status=400, code="50196"), "token", REQUEST, NOW)
    content = json.loads(answer.body)
    assert (answer.status, content["error"], content["error_codes"]) == (400, "invalid_grant", [50196])
    plain = json.loads(fault_answer(Fault(status=503), "token", REQUEST, NOW).body)
    assert plain["error"] == "temporarily_unavailable"


def test_other_bodies() -> None:
    assert b"<html>" in fault_answer(Fault(status=502, body="html"), "sendMail", REQUEST, NOW).body
    assert fault_answer(Fault(status=500, body="empty"), "sendMail", REQUEST, NOW).body == b""
    assert fault_answer(Fault(status=200), "sendMail", REQUEST, NOW).body == b""
