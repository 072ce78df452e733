# SPDX-License-Identifier: MIT
"""Secrets that do not show themselves, and hashes of passwords (scrypt, RFC 7914).

Knows nothing of SMTP, Graph or the configuration file.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

# 16 MiB and some 50 ms a check. The encoded form carries its parameters, so that they can grow some day.
_LN, _R, _P = 14, 8, 1
_SALT_OCTETS, _HASH_OCTETS = 16, 32
_ENCODED = re.compile(
    r"scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]+={0,2})\$([A-Za-z0-9+/]+={0,2})"
)
# What a check may cost at the most: whoever can log in can make us do it.
_MAX_LN, _MAX_R, _MAX_P, _MAX_MEMORY = 17, 16, 4, 512 << 20


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
        return hmac.compare_digest(_octets(self._value), _octets(other._value))

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


def hash_password(password: str) -> str:
    """What stands for the password in the configuration: "scrypt$ln=14,r=8,p=1$SALT$HASH", both in base64."""
    salt = os.urandom(_SALT_OCTETS)
    digest = _scrypt(password, salt, _LN, _R, _P, _HASH_OCTETS)
    return f"scrypt$ln={_LN},r={_R},p={_P}${_base64(salt)}${_base64(digest)}"


def verify_password(password: str, encoded: str) -> bool:
    """Whether the password is the one that was hashed; takes the same time for every wrong one.

    Raises ValueError where encoded is not what hash_password() makes.
    """
    ln, r, p, salt, digest = _decode(encoded)
    return hmac.compare_digest(_scrypt(password, salt, ln, r, p, len(digest)), digest)


def check_password_hash(encoded: str) -> None:
    """Raises ValueError, which does not hold it, where encoded is not what hash_password() makes."""
    _decode(encoded)


def _decode(encoded: str) -> tuple[int, int, int, bytes, bytes]:
    parts = _ENCODED.fullmatch(encoded)
    if parts is None:
        raise ValueError("not a scrypt hash of the form scrypt$ln=14,r=8,p=1$SALT$HASH")
    ln, r, p = int(parts[1]), int(parts[2]), int(parts[3])
    if not (1 <= ln <= _MAX_LN and 1 <= r <= _MAX_R and 1 <= p <= _MAX_P):
        raise ValueError("a scrypt hash with parameters out of range")
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in (parts[4], parts[5]))
    except ValueError:
        raise ValueError("a scrypt hash with a broken salt or hash") from None
    if len(salt) < 8 or len(digest) < 16:
        raise ValueError("a scrypt hash with too short a salt or hash")
    return ln, r, p, salt, digest


def _scrypt(password: str, salt: bytes, ln: int, r: int, p: int, octets: int) -> bytes:
    return hashlib.scrypt(_octets(password), salt=salt, n=1 << ln, r=r, p=p, maxmem=_MAX_MEMORY, dklen=octets)


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
