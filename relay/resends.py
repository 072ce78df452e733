# SPDX-License-Identifier: MIT
"""Messages that their client will send again although they may have been delivered: a re-send is not a second mail.

A client that takes the last reply for lost sends the message again (RFC 5321 §4.5.4.1; RFC 1047 on how that doubles
mail), and so does one that was told to, since nobody knew whether the message had gone. Here a message is known by a
keyed digest of who sent what to whom, in memory only. Identical octets alone make no re-send: the earlier client must
have gone without its 250, or be in that doubt. Knows no SMTP and no Graph.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from relay.clock import Clock, Deadline

REMEMBERED_S = 600.0
MOST_REMEMBERED = 10_000


class StillOnItsWay(Exception):
    """The same message came before, its client hung up, and it is still being delivered at the deadline."""


class SentAgain(Exception):
    """The client hung up before its message was looked at, and has sent it again: the re-send is on its way already."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The message that a re-send repeats.

    in_doubt_since: None where it was delivered; else when it was handed in, by the monotonic clock: it may have been.
    """

    message_id: str
    in_doubt_since: float | None = None

    def __str__(self) -> str:
        """As a word of at most 32 characters, for another process."""
        return self.message_id if self.in_doubt_since is None else f"{self.message_id}?{self.in_doubt_since:.2f}"

    @classmethod
    def read(cls, word: str) -> Earlier | None:
        """What str() has made; None of an empty one."""
        message_id, in_doubt, since = word.partition("?")
        return cls(message_id, float(since) if in_doubt else None) if word else None


@dataclass(slots=True, eq=False)
class _Sending:
    """One message, from the end of its data until its client has the answer, and ten minutes longer without it.

    gone: whether the client has hung up by now; None once the connection is over. repeats: what it is a re-send of;
    once it is settled, what a re-send of it repeats. None for nothing.
    """

    message_id: str
    digest: bytes
    gone: Callable[[], bool] | None
    settled: bool = False
    awaited: threading.Event | None = None  # made by whoever waits for it to be settled
    repeats: Earlier | None = None
    until: float = 0.0

    def awaits_resend(self, now: float) -> bool:
        """Whether its client would send it again: gone while it is on its way, or gone without the 250."""
        if self.gone is None:
            return now < self.until
        return not self.settled and self.gone()

    def settle(self) -> None:
        """What has become of it is known; whoever waits for that goes on."""
        self.settled = True
        if self.awaited is not None:
            self.awaited.set()

    def wait_until_settled(self, patience_s: float) -> bool:
        """False when that takes longer."""
        if not self.settled:
            self.awaited = self.awaited or threading.Event()
            self.awaited.wait(patience_s)
        return self.settled  # perhaps just now, before we were woken: nobody else would remember it


class Elsewhere(Protocol):
    """The other processes of the same service: what is on its way there, and what all of them remember."""

    @property
    def key(self) -> bytes:
        """By which all of them digest messages."""
        ...

    def begun(self, message_id: str, digest: bytes) -> None:
        """It is on its way here."""
        ...

    def claim(self, digest: bytes, deadline: Deadline) -> str:
        """What it repeats that came to another process before, as a word, or empty. Raises StillOnItsWay."""
        ...

    def has(self, digest: bytes) -> bool:
        """Whether it is on its way in another process."""
        ...

    def ended(self, message_id: str) -> None:
        """It is answered."""
        ...

    def lost(self, digest: bytes, earlier: str, until: float) -> None:
        """Delivered, perhaps, and the client does not know: for all to remember."""
        ...

    def purge(self) -> None:
        """Forget what is older than ten minutes."""
        ...


class Resends:
    """The memory; one for the whole program, since a client may come back over a reload of the configuration."""

    def __init__(self, clock: Clock, most: int = MOST_REMEMBERED, elsewhere: Elsewhere | None = None) -> None:
        self._clock = clock
        self._most = most
        self._elsewhere = elsewhere
        self._key = elsewhere.key if elsewhere else os.urandom(32)
        self._at_hand: dict[str, _Sending] = {}  # by message id: not answered yet, at most one a connection
        self._lost: OrderedDict[str, _Sending] = OrderedDict()  # the client does not know of its delivery; oldest first
        self._alike: dict[bytes, list[_Sending]] = {}  # by digest: what a re-send may repeat

    def begin(
        self, message_id: str, parts: Iterable[bytes], gone: Callable[[], bool], deadline: Deadline
    ) -> Earlier | None:
        """What this very message repeats, or None.

        parts: who, from whom, to whom, the octets. gone: whether the client has hung up by now. Waits while the
        earlier one is on its way. Raises StillOnItsWay, SentAgain. settled() and answered() have to follow in any case.
        """
        sending = _Sending(message_id, self._digest(parts), gone)
        earlier = self._claim(sending.digest)
        alike = self._alike.setdefault(sending.digest, [])
        alike_here = bool(alike) and earlier is None and any(other.gone for other in alike)
        self._at_hand[message_id] = sending
        alike.append(sending)
        if self._elsewhere is not None:
            self._elsewhere.begun(message_id, sending.digest)
        if earlier is not None:
            sending.repeats = self._outcome(earlier, deadline)
        elif self._elsewhere is not None:
            sending.repeats = Earlier.read(self._elsewhere.claim(sending.digest, deadline))
        if sending.repeats is None and earlier is None and (alike_here or self._is_elsewhere(sending)) and gone():
            self._forget(sending)  # no re-send repeats it: the one that is on its way does
            raise SentAgain
        return sending.repeats

    def _is_elsewhere(self, sending: _Sending) -> bool:
        return self._elsewhere is not None and self._elsewhere.has(sending.digest)

    def claim(self, digest: bytes, deadline: Deadline) -> str | None:
        """What a re-send repeats that came to another process, as a word; None where nothing here awaits one."""
        earlier = self._claim(digest)
        return None if earlier is None else str(self._outcome(earlier, deadline) or "")

    def _outcome(self, earlier: _Sending, deadline: Deadline) -> Earlier | None:
        """What has become of it, once that is known; None where it was not delivered. Raises StillOnItsWay."""
        try:
            if not earlier.wait_until_settled(deadline.remaining()):
                raise StillOnItsWay
        except BaseException:  # raised on; the greenlet may be killed while it waits
            self._give_back(earlier)
            raise
        return earlier.repeats

    def settled(self, message_id: str, *, delivered: bool, in_doubt_since: float | None = None) -> None:
        """What has become of it; whoever waits for that goes on.

        in_doubt_since: its client is to come again, and it, or what it repeats, was handed in then and may have gone.
        """
        sending = self._at_hand.get(message_id)
        if sending is None:
            return
        first_id = sending.repeats.message_id if sending.repeats else message_id
        if delivered:
            sending.repeats = Earlier(first_id)
        else:
            sending.repeats = None if in_doubt_since is None else Earlier(first_id, in_doubt_since)
        sending.settle()

    def answered(self, message_id: str, *, heard: bool) -> bool:
        """The connection's last word on it. True: delivered, and its client went without knowing."""
        sending = self._at_hand.pop(message_id, None)
        if sending is None:
            return False
        earlier = sending.repeats
        sending.gone = None  # it holds the connection
        if earlier is None or (heard and earlier.in_doubt_since is None):
            self._forget(sending)
        else:
            self._remember(sending, earlier)
        if self._elsewhere is not None:
            self._elsewhere.ended(message_id)  # once it is remembered: whoever asks finds the one or the other
        return earlier is not None and earlier.in_doubt_since is None and not heard

    def _remember(self, sending: _Sending, earlier: Earlier) -> None:
        """For ten minutes; from when it was handed in, where there is doubt, so that doubt does not go on for ever."""
        since = self._clock.monotonic() if earlier.in_doubt_since is None else earlier.in_doubt_since
        sending.until = since + REMEMBERED_S
        if sending in self._alike.get(sending.digest, ()):  # else its re-send is here already
            if self._elsewhere is None:
                self._lost[sending.message_id] = sending
            else:
                self._forget(sending)
                self._elsewhere.lost(sending.digest, str(earlier), sending.until)
        while len(self._lost) > self._most:
            self._forget(next(iter(self._lost.values())))

    def purge(self) -> None:
        """Forget what is older than ten minutes; the janitor's task."""
        if self._elsewhere is not None:
            self._elsewhere.purge()
        now = self._clock.monotonic()
        for sending in [sending for sending in self._lost.values() if sending.until <= now]:
            self._forget(sending)

    def _digest(self, parts: Iterable[bytes]) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))  # so that no two lists of parts read alike
            digest.update(part)
        return digest.digest()

    def _claim(self, digest: bytes) -> _Sending | None:
        """The oldest message that a re-send of these octets repeats; no second re-send can have it."""
        alike = self._alike.get(digest)
        if alike is None:  # as of nearly every message
            return None
        now = self._clock.monotonic()
        found = next((sending for sending in alike if sending.awaits_resend(now)), None)
        if found is not None:
            self._forget(found)
        return found

    def _give_back(self, earlier: _Sending) -> None:
        """Whoever claimed it could not wait: the next re-send may."""
        if earlier.message_id in self._at_hand:
            self._alike.setdefault(earlier.digest, []).insert(0, earlier)

    def _forget(self, sending: _Sending) -> None:
        self._lost.pop(sending.message_id, None)
        alike = self._alike.get(sending.digest, [])
        if sending in alike:
            alike.remove(sending)
        if not alike:
            self._alike.pop(sending.digest, None)
