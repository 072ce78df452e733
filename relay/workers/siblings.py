# SPDX-License-Identifier: MIT
"""What the token sources of all workers tell one another: refusals, and whose turn it is to ask for a user's token.

A token itself stays in the worker that has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager

from relay.clock import Deadline
from relay.graph.errors import CredentialsRefused, TokenError, TokenUnavailable
from relay.graph.tokens import Refusal
from relay.workers.gates import Gates, one_at_a_time
from relay.workers.journal import Journal

MOST_REFUSALS = 4096
RECORD_OCTETS = 1024
_FAULTS: dict[str, type[TokenError]] = {fault.__name__: fault for fault in (CredentialsRefused, TokenUnavailable)}


class TokenSiblings:
    """One worker's side of it."""

    def __init__(self, journal: Journal, gates: Gates, digest_key: bytes) -> None:
        self.digest_key = digest_key
        self._journal = journal
        self._gates = gates

    def turn(self, user: str, deadline: Deadline) -> AbstractContextManager[bool]:
        return one_at_a_time(self._gates, user, deadline)

    def tell(self, user: str, digest: bytes, refusal: Refusal) -> None:
        fault = refusal.fault
        if type(fault).__name__ in _FAULTS:
            said = (type(fault).__name__, fault.advice, fault.entra_code)
            record = json.dumps([user, digest.hex(), refusal.until, refusal.lasted_s, *said])
            self._journal.append(record.encode("ascii"))

    def heard(self) -> Iterable[tuple[str, bytes, Refusal]]:
        for record in self._journal.news():
            user, digest, until, lasted_s, name, advice, code = json.loads(record)
            yield user, bytes.fromhex(digest), Refusal(until, lasted_s, _FAULTS[name](advice, code))
