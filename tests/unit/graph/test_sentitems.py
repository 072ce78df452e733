# SPDX-License-Identifier: MIT
"""What is looked for behind an unclear answer, and what follows from it; Graph is a list of answers here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from relay.clock import Deadline
from relay.credentials import Secret
from relay.graph import errors
from relay.graph.client import Answer, Bearer, GraphClient
from relay.graph.denials import DENIED_FOR_S
from relay.graph.errors import GraphError
from relay.graph.mail import Mailer, Receipt
from relay.graph.retry import RetryPolicy
from relay.graph.sentitems import SentCopy
from relay.identity import Credentials
from tests.support.clock import FakeClock

LOGIN = Credentials("a@example.com", Secret("Passw0rd"))
UNCLEAR = errors.OutcomeUnknown
MISSING: list[Any] = []
BROKEN_OFF = None


class FakeTokens:
    def get(self, login: Credentials, deadline: Deadline) -> Secret:
        return Secret("T0KEN")

    def revoke(self, login: Credentials, token: Secret) -> None:
        """There is only this one."""


class FakeClient(GraphClient):
    """steps: for each request in turn, what happens: a 202's id, items that are found, a broken answer, an error."""

    def __init__(self, *steps: str | list[Any] | GraphError | None) -> None:
        super().__init__(None, "https://graph.example", lambda _: None)  # type: ignore[arg-type,return-value]
        self._steps = list(steps)
        self.searches: list[str] = []

    def send_mail(self, *_: object) -> str:
        step = self._steps.pop(0)
        if isinstance(step, GraphError):
            raise step
        assert isinstance(step, str), "a search was due"
        return step

    def ask(self, method: str, url: str, access: Bearer, content: Any = b"", **options: Any) -> Answer:
        step = self._steps.pop(0)
        assert method == "GET"
        self.searches.append(url)
        if isinstance(step, GraphError):
            raise step
        assert not isinstance(step, str), "a sending was due"
        return Answer(200, None if step is BROKEN_OFF else {"value": step}, "search")


class Scene:
    def __init__(self, *steps: str | list[Any] | GraphError | None, attempts: int = 3, repeat: bool = True) -> None:
        self.clock = FakeClock()
        self.client = FakeClient(*steps)
        policy = RetryPolicy(attempts, 0.5, repeat)
        self.mailer = Mailer(self.client, FakeTokens(), policy, self.clock, draw=lambda: 0.0)  # type: ignore[arg-type]
        now = self.clock.now()
        recipients = frozenset({"b@example.com", "c@example.com"})
        self.copy = SentCopy("<it's@example.com>", recipients, now, now + timedelta(seconds=110))

    def item(self, sent_s: float = 3, **changes: Any) -> dict[str, Any]:
        """The copy, as Graph shows it."""
        at = (self.copy.not_before + timedelta(seconds=sent_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
        shown = {"sentDateTime": at, "toRecipients": _to("B@example.com"), "bccRecipients": _to("c@example.com")}
        return {"id": "1", **shown, **changes}

    def send(self, *, kept: bool = True, timeout_s: float = 110) -> Receipt:
        deadline = Deadline(self.clock, timeout_s)
        copy = self.copy if kept else None
        return self.mailer.send("a@example.com", b"{}", "application/json", LOGIN, deadline, "M1", copy=copy)


def _to(*addresses: str) -> list[dict[str, Any]]:
    return [{"emailAddress": {"name": address, "address": address}} for address in addresses]


def found_after(*steps: str | list[Any] | GraphError, **options: Any) -> Scene:
    """A scene whose last search finds the message."""
    scene = Scene(*steps, **options)
    scene.client._steps.append([{"id": "0", "sentDateTime": 1}, scene.item()])
    return scene


def test_found() -> None:
    scene = found_after(UNCLEAR())
    assert scene.send() == Receipt("", 2, False, found=True)
    assert scene.clock.elapsed >= 5
    (search,) = scene.client.searches
    parts = urlsplit(search)
    assert parts.path == "/v1.0/users/a@example.com/mailFolders/sentitems/messages"
    assert parse_qs(parts.query)["$filter"] == ["internetMessageId eq '<it''s@example.com>'"]


def test_not_found_is_sent_again_and_stays_doubtful() -> None:
    assert Scene(UNCLEAR(), MISSING, "id-2").send() == Receipt("id-2", 2, True)


def test_found_behind_two_unclear_ones_may_be_there_twice() -> None:
    assert found_after(UNCLEAR(), MISSING, UNCLEAR()).send() == Receipt("", 3, True, found=True)


def test_found_at_last() -> None:
    """No try is left, but it is looked for before the client is told to come again."""
    for scene in (found_after(UNCLEAR(), attempts=1), found_after(UNCLEAR(), repeat=False)):
        assert scene.send().found
        assert scene.clock.elapsed >= 5


def test_no_time_to_look() -> None:
    scene = Scene(UNCLEAR())
    with pytest.raises(errors.OutcomeUnknown) as caught:
        scene.send(timeout_s=4)
    assert caught.value.possible_duplicate
    assert scene.clock.elapsed == 0


def test_what_leaves_no_copy_is_not_looked_for() -> None:
    scene = Scene(UNCLEAR(), "id-2")
    assert scene.send(kept=False) == Receipt("id-2", 2, True)
    assert scene.client.searches == []


def test_clear_failures_are_not_looked_behind() -> None:
    assert Scene(errors.ServerBusy(), "id-2").send() == Receipt("id-2", 2, False)


def test_a_search_that_fails_for_now_is_repeated_before_anything_is_sent() -> None:
    assert found_after(UNCLEAR(), errors.ServerBusy()).send().found


@pytest.mark.parametrize("failing", [errors.ServerBusy, errors.Throttled, errors.NotAuthorized, lambda: BROKEN_OFF])
def test_a_search_that_fails_to_the_end_leaves_the_doubt_as_it_was(failing: Callable[[], GraphError | None]) -> None:
    """Neither its throttling nor its token is the message's; and never is it said that nothing was sent."""
    scene = Scene(UNCLEAR(), *[failing() for _ in range(9)])
    with pytest.raises(GraphError) as caught:
        scene.send()
    assert type(caught.value) is UNCLEAR
    assert caught.value.possible_duplicate
    assert "could not be found out" in str(caught.value)
    scene = Scene(*[failing() for _ in range(9)])
    with pytest.raises(UNCLEAR, match="could not be found out") as caught:
        scene.mailer.was_sent("a@example.com", scene.copy, LOGIN, Deadline(scene.clock, 110), "M1")
    assert not caught.value.possible_duplicate, "the doubt is the earlier message's, and gets no younger"


@pytest.mark.parametrize(
    "failure",
    [errors.Refused(), errors.MailboxUnknown(), errors.TooLarge(), errors.ServerBusy(status=501)],
)
def test_a_search_that_is_refused_is_never_the_messages_own_outcome(failure: GraphError) -> None:
    assert Scene(UNCLEAR(), failure, "id-2").send() == Receipt("id-2", 2, True)


def test_a_search_whose_answer_broke_off_says_nothing() -> None:
    scene = Scene(UNCLEAR(), BROKEN_OFF)
    scene.client._steps.append([scene.item()])
    receipt = scene.send()
    assert receipt.found
    assert not receipt.possible_duplicate


def test_a_mailbox_that_may_not_be_searched_is_left_alone_for_ten_minutes() -> None:
    steps = (UNCLEAR(), errors.AccessDenied(status=403), "id-2", UNCLEAR(), "id-4", UNCLEAR(), MISSING, "id-6")
    scene = Scene(*steps)
    assert scene.send().request_id == "id-2"
    assert scene.send().request_id == "id-4"
    scene.clock.advance(DENIED_FOR_S)
    scene.mailer.sent_items.purge()
    assert scene.send().request_id == "id-6"
    assert len(scene.client.searches) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"sent_s": -121},
        {"sentDateTime": "soon"},
        {"sentDateTime": None},
        {"bccRecipients": []},
        {"ccRecipients": _to("d@example.com")},
        {"toRecipients": [{"odd": 1}]},
        {"toRecipients": "odd"},
    ],
    ids=str,
)
def test_the_copy_of_another_message(changes: dict[str, Any]) -> None:
    """One Message-ID may stand on several: a message parted by its MTA, a device that knows only one id."""
    scene = Scene()
    assert scene.copy.is_one(scene.item())
    assert not scene.copy.is_one(scene.item(**changes))


def test_a_copy_that_shows_little_besides_its_message_id() -> None:
    """A gateway before Graph may heed no $select; the filter was for the Message-ID."""
    scene = Scene()
    shown = scene.item()
    assert scene.copy.is_one({"id": "1"})
    assert scene.copy.is_one({"id": "1", "sentDateTime": shown["sentDateTime"]})
    assert scene.copy.is_one({name: value for name, value in shown.items() if name != "sentDateTime"})
    assert not scene.copy.is_one({"id": "1", "internetMessageId": "<other@example.com>"})
    assert not scene.copy.is_one({"id": "1", "sentDateTime": "2000-01-01T00:00:00Z"})


@pytest.mark.parametrize("message_id", ["", f"<{'x' * 500}@example.com>"])
def test_ids_that_cannot_be_asked_for(message_id: str) -> None:
    scene = Scene(UNCLEAR(), "id-2")
    scene.copy = replace(scene.copy, internet_message_id=message_id)
    assert scene.send() == Receipt("id-2", 2, True)
