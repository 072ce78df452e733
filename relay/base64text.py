# SPDX-License-Identifier: MIT
"""base64 without line breaks (RFC 4648 §4) of much data: by pybase64 where it is installed, else by the interpreter.

Large mail is base64 above all. pybase64 takes a tenth of the time or less; Debian does not have it.
"""

from __future__ import annotations

try:
    from pybase64 import b64decode, b64encode
except ImportError:
    from base64 import b64decode, b64encode  # type: ignore[assignment]  # which takes the same of what we pass


def encoded(octets: bytes) -> bytes:
    """The base64 of the octets, padded."""
    return b64encode(octets)


def decoded(characters: bytes) -> bytes:
    """What is encoded in whole groups of four. Raises binascii.Error for anything else, white space too."""
    return b64decode(characters, validate=True)
