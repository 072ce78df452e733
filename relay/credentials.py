# SPDX-License-Identifier: MIT
"""Secrets that do not show themselves. Knows nothing of SMTP, Graph or the configuration file."""

from __future__ import annotations

import hmac


class Secret:
    """A password, token or client secret: neither its repr, its str nor its format shows the value.

    Call reveal() at the one place where the value is really needed. Two secrets compare in constant time.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, to be handed to Entra ID or to a comparison, never to a log."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode("utf-8", "surrogatepass"), other._value.encode("utf-8", "surrogatepass"))

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")
