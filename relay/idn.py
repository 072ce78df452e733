# SPDX-License-Identifier: MIT
"""Domains of addresses in the one form in which two of them can be compared (IDNA, RFC 5891). Knows no mail."""

from __future__ import annotations

import contextlib


def comparable_domain(domain: str) -> str:
    """As A-labels, in lower case and without a final dot; what is no host name is taken as it stands. Never raises."""
    if not domain.isascii() and len(domain) <= 255:  # some versions of idna take quadratic time
        import idna  # here and not above: few domains need it, and it loads slowly

        with contextlib.suppress(UnicodeError):
            domain = idna.encode(domain, uts46=True).decode("ascii")
    return domain.casefold().rstrip(".。")
