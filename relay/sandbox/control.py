# SPDX-License-Identifier: MIT
"""What a test asks of the sandbox over HTTP: messages, counters, faults, a clean slate. Knows no socket.

These endpoints exist only where SandboxSettings.control says so. They ask for no token: the sandbox listens
on loopback.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable
from urllib.parse import parse_qs

from relay.sandbox.capture import Captured, as_json
from relay.sandbox.faults import Faults, parse_fault
from relay.sandbox.mailstore import Item
from relay.sandbox.model import Answer, Request, json_answer
from relay.sandbox.tokens import Tokens

KEPT_MESSAGES = 10_000


class Stats:
    """Counters: requests by kind and status (0: never answered), and how many at a time per mailbox."""

    def __init__(self) -> None:
        self.requests: dict[str, Counter[str]] = {}
        self.max_concurrent: Counter[str] = Counter()
        self._concurrent: Counter[str] = Counter()

    def began(self, mailbox: str) -> None:
        if mailbox:
            self._concurrent[mailbox] += 1
            self.max_concurrent[mailbox] = max(self.max_concurrent[mailbox], self._concurrent[mailbox])

    def running(self, mailbox: str) -> int:
        """How many requests for a mailbox there are now."""
        return self._concurrent[mailbox]

    def ended(self, mailbox: str, kind: str, status: int) -> None:
        if mailbox:
            self._concurrent[mailbox] -= 1
        self.requests.setdefault(kind, Counter())[str(status)] += 1

    def clear(self) -> None:
        """Forget what was counted. Requests that are still running go on being counted as running."""
        self.requests.clear()
        self.max_concurrent.clear()


class Control:
    """The endpoints below /_sandbox/. received: how many came in all, of which messages holds the last."""

    def __init__(
        self,
        messages: deque[Captured],
        received: Callable[[], int],
        faults: Faults,
        stats: Stats,
        tokens: Tokens,
        clear_messages: Callable[[], None],
        hold: Callable[[], None],
        release: Callable[[], None],
    ) -> None:
        self._messages = messages
        self._received = received
        self._faults = faults
        self._stats = stats
        self._tokens = tokens
        self._clear_messages = clear_messages
        self._hold = hold
        self._release = release

    def list_messages(self, request: Request) -> Answer:
        """GET /_sandbox/messages?after=N: the messages but for the first N, each with its number."""
        try:
            after = int(parse_qs(request.query).get("after", ["0"])[0])
        except ValueError:
            return json_answer(400, {"error": "after: a number expected"})
        first = self._received() - len(self._messages) + 1
        numbered = list(enumerate(self._messages, first))
        return json_answer(200, [{"number": number, **as_json(item)} for number, item in numbered if number > after])

    def list_drafts(self, drafts: list[Item]) -> Answer:
        """GET /_sandbox/drafts: what was made and neither sent nor deleted."""
        return json_answer(
            200,
            [
                {
                    "id": item.id,
                    "mailbox": item.mailbox,
                    "subject": item.message.get("subject") or "",
                    "attachments": len(item.attachments),
                }
                for item in drafts
            ],
        )

    def show_stats(self, request: Request) -> Answer:
        """GET /_sandbox/stats."""
        return json_answer(
            200,
            {
                "requests": {kind: dict(statuses) for kind, statuses in self._stats.requests.items()},
                "max_concurrent": dict(self._stats.max_concurrent),
                "messages": self._received(),
            },
        )

    def add_faults(self, request: Request) -> Answer:
        """POST /_sandbox/faults: a JSON list, all of them or none."""
        try:
            content = json.loads(request.body)
            if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
                raise ValueError("a JSON list of objects expected")
            faults = [parse_fault(item) for item in content]
        except ValueError as error:
            return json_answer(400, {"error": str(error)})
        if any(fault.hold for fault in faults):
            self._hold()
        self._faults.add(*faults)
        return Answer(204)

    def reset(self, request: Request) -> Answer:
        """POST /_sandbox/reset: no messages, drafts, faults, counters or tokens any more."""
        self._release()
        self._clear_messages()
        self._faults.clear()
        self._stats.clear()
        self._tokens.revoke_all()
        return Answer(204)

    def release(self, request: Request) -> Answer:
        """POST /_sandbox/release: what faults hold goes on, also what they come to hold, until one more is added."""
        self._release()
        return Answer(204)

    def revoke(self, request: Request) -> Answer:
        """POST /_sandbox/revoke: every token that was given out is invalid from now on."""
        self._tokens.revoke_all()
        return Answer(204)
