# SPDX-License-Identifier: MIT
"""How often a client address may fail to log in. Knows addresses and time, in bounded memory; knows no SMTP."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque

from relay.clock import Clock
from relay.config import AuthLimit

_MOST_ADDRESSES = 10_000
_IPV6_CUSTOMER = 64  # one customer has at least that much of IPv6, so single addresses say nothing


class LoginLimit:
    """Counts failed logins of each client address within a window that moves."""

    def __init__(self, limit: AuthLimit, clock: Clock) -> None:
        self.limit = limit
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str) -> None:
        """One more; the address that failed longest ago is forgotten when there are too many."""
        self._count(key_of(address), self._clock.monotonic())

    def _count(self, key: str, when: float) -> None:
        times = deque(self._failures.pop(key, ()), maxlen=self.limit.failures)  # a reload may have changed the limit
        times.append(when)
        self._failures[key] = times
        if len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)

    def reached(self, address: str) -> bool:
        """Whether this address has used up its failures for now."""
        times = self._failures.get(key_of(address))
        if times is None or len(times) < self.limit.failures:
            return False
        return times[-self.limit.failures] > self._clock.monotonic() - self.limit.window_s

    def purge(self) -> None:
        """Forget who has been quiet for a window; the janitor's task."""
        horizon = self._clock.monotonic() - self.limit.window_s
        while self._failures:
            key, times = next(iter(self._failures.items()))
            if times[-1] > horizon:
                return
            del self._failures[key]


def key_of(address: str) -> str:
    """What is counted together: one IPv4 address, or one customer's IPv6 network."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((int(ipaddress.IPv6Address(address)), _IPV6_CUSTOMER), strict=False))
