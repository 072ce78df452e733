# SPDX-License-Identifier: MIT
"""Scripted faults: which request fails, how often and in what way. Carries nothing out: the server does.

Faults are used up in the order in which they were added. One that only delays is no fault proper but latency: it
adds its seconds, or its hold, and the search goes on, so that `count=-1, delay_s=0.2` can stand beside any other fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import Literal

ANY = "any"
FOR_EVER = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail, and for whom.

    kind: the route it is for (`token`, `sendMail`, `draft`, `attachment`, `uploadSession`, `upload`, `send`,
    `deleteDraft` and the others in routes.py) or `any`. user: the login or the mailbox it is for, empty for everyone.
    count: how many requests, -1 for ever.
    status: answer with this instead of what the service would say; 0 leaves the service's own answer.
    code: Graph's error code, or an AADSTS number, in the body of that answer; empty picks the usual one.
    accept: the service handles the request first: a message is captured although its sender cannot know.
    reset: cut the connection (TCP RST) before the body is read, after it, or never (empty).
    hang: never answer. hold: wait until the release before the answer. delay_s: wait that long before the answer.
    slow_s: spread the answer's body over that time.
    """

    kind: str = ANY
    user: str = ""
    count: int = 1
    status: int = 0
    code: str = ""
    body: Literal["json", "html", "empty"] = "json"
    retry_after: str = ""
    accept: bool = False
    reset: Literal["", "before_body", "after_body"] = ""
    hang: bool = False
    hold: bool = False
    delay_s: float = 0.0
    slow_s: float = 0.0

    def __post_init__(self) -> None:
        if self.reset not in ("", "before_body", "after_body"):
            raise ValueError(f"reset: not {self.reset!r}")
        if self.body not in ("json", "html", "empty"):
            raise ValueError(f"body: not {self.body!r}")
        if self.status and not 200 <= self.status <= 599:
            raise ValueError(f"status: not {self.status!r}")
        if self.reset == "before_body" and self.accept:
            raise ValueError("a message whose body was not read cannot be accepted")
        if self.reset == "before_body" and (self.delay_s or self.hold):
            raise ValueError("delay_s and hold count from the end of the body, which this fault does not read")
        if self.kind == "token" and self.user and self.reset == "before_body":
            raise ValueError("the user of a token request stands in its body")

    @property
    def only_delays(self) -> bool:
        """Latency: the request is answered as ever, later."""
        return not (self.status or self.reset or self.hang or self.retry_after or self.slow_s or self.accept)

    def is_for(self, kind: str, names: Iterable[str]) -> bool:
        """Whether it is for a request of this kind in which these users and mailboxes are named."""
        if self.kind not in (ANY, kind):
            return False
        return not self.user or self.user.casefold() in {name.casefold() for name in names}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to one request: so much latency, a hold or none, and then that fault, or none."""

    delay_s: float = 0.0
    hold: bool = False
    fault: Fault | None = None


class Faults:
    """The faults that are still to come. Safe to use from another thread than the server's."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []
        self._lock = Lock()

    def add(self, *faults: Fault) -> None:
        """Queue them behind those that are there."""
        with self._lock:
            self._pending.extend(fault for fault in faults if fault.count)

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()

    def resets_before_body(self, kind: str, names: Iterable[str]) -> bool:
        """Whether this request is to be cut off before its body is read; uses that fault up."""
        with self._lock:
            for index, fault in enumerate(self._pending):
                if not fault.is_for(kind, names) or fault.only_delays:
                    continue
                if fault.reset != "before_body":
                    return False  # another fault stands first, and wants the body
                self._use(index)
                return True
        return False

    def take(self, kind: str, names: Iterable[str]) -> Verdict:
        """What happens to this request, whose body was read; uses the faults up."""
        wanted = list(names)
        delay_s, hold = 0.0, False
        with self._lock:
            for fault in list(self._pending):
                if fault.reset == "before_body" or not fault.is_for(kind, wanted):
                    continue
                self._use(self._pending.index(fault))
                delay_s += fault.delay_s
                hold = hold or fault.hold
                if not fault.only_delays:
                    return Verdict(delay_s, hold, fault)
        return Verdict(delay_s, hold)

    def _use(self, index: int) -> None:
        fault = self._pending[index]
        if fault.count == 1:
            del self._pending[index]
        elif fault.count != FOR_EVER:
            self._pending[index] = replace(fault, count=fault.count - 1)


def parse_fault(content: Mapping[str, object]) -> Fault:
    """The fault that a JSON object describes. Raises ValueError with one line on what is wrong with it."""
    # Compared by the type of the default: the annotations are strings here, and bool is a subclass of int.
    defaults = {item.name: item.default for item in fields(Fault)}
    values: dict[str, object] = {}
    for name, value in content.items():
        if name not in defaults:
            raise ValueError(f"{name}: no such field of a fault")
        wanted = type(defaults[name])
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise ValueError(f"{name}: {wanted.__name__} expected")
        values[name] = value
    return Fault(**values)  # type: ignore[arg-type]  # checked above, field by field
