# SPDX-License-Identifier: MIT
"""Mailboxes for which Graph denied something: it is not asked for again for a while. Knows no permission by name."""

from __future__ import annotations

from relay.clock import Clock

DENIED_FOR_S = 600.0


class Denials:
    """What the app may not do, and where: a permission is granted seldom, and takes a while to work."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}  # by mailbox

    def add(self, mailbox: str) -> None:
        """Graph denied it just now."""
        self._until[mailbox.casefold()] = self._clock.monotonic() + DENIED_FOR_S

    def __contains__(self, mailbox: str) -> bool:
        return self._until.get(mailbox.casefold(), 0.0) > self._clock.monotonic()

    def purge(self) -> None:
        """Forget those that may be asked for again; the janitor's task."""
        now = self._clock.monotonic()
        self._until = {mailbox: until for mailbox, until in self._until.items() if until > now}
