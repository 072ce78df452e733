# SPDX-License-Identifier: MIT
"""What is fuzzed: octets of a client into line reader, command parser, AUTH, BDAT and PROXY header, and what must hold.

The first octet of an input says where the rest goes in, the second how it is cut into segments.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from relay.smtp import proxy
from relay.smtp.command import Command, parse
from relay.smtp.reply import Reject
from tests.support.wire import ENVELOPE, LOGIN, converse

_TRANSACTION = ENVELOPE.removesuffix(b"DATA\r\n")
_AHEAD = (
    b"",
    b"EHLO c\r\n",
    LOGIN,
    LOGIN + _TRANSACTION,
    LOGIN + ENVELOPE,
    b"EHLO c\r\nAUTH ",
    LOGIN + _TRANSACTION + b"BDAT ",
)
_REPLIES = re.compile(rb"([2-5][0-9]{2}-[ -~]*\r\n)*([2-5][0-9]{2} [ -~]*\r\n)")
_FAULT = b"421 4.3.0"


def run(octets: bytes) -> None:
    """Raises AssertionError, or whatever the code raises that it must not."""
    if len(octets) < 2:
        return
    where, seed, octets = octets[0] % (len(_AHEAD) + 1), octets[1], octets[2:]
    if where == len(_AHEAD):
        _proxy_header(octets)
        _command(octets)
    else:
        _session(_AHEAD[where] + octets, seed)


def _session(octets: bytes, seed: int) -> None:
    """Replies are well formed, none tells of a fault, and segments change nothing."""
    in_one = converse([octets])
    rest = in_one.replies
    while rest:
        match = _REPLIES.match(rest)
        assert match, rest[:80]
        assert not match[2].startswith(_FAULT)
        rest = rest[match.end() :]
    assert converse(_cut(octets, seed)).without_writes() == in_one.without_writes()


def _cut(octets: bytes, seed: int) -> Sequence[bytes]:
    if seed == 0:
        return [octets[at : at + 1] for at in range(len(octets))]
    draw = random.Random(seed)
    segments = []
    while octets:
        size = draw.choice((1, 2, 3, draw.randrange(1, 60)))
        segments.append(octets[:size])
        octets = octets[size:]
    return segments


def _proxy_header(octets: bytes) -> None:
    """Read as the server does: it ends, and never asks for an octet behind the header."""
    taken = 0
    while taken <= len(octets):
        try:
            header = proxy.parse(octets[:taken])
        except proxy.NotProxyProtocol:
            return
        if header.missing == 0:
            return
        assert 0 < header.missing <= 4112
        taken += header.missing


def _command(octets: bytes) -> None:
    try:
        parsed = parse(octets)
    except Reject:
        return
    assert isinstance(parsed, Command)
    assert not any(c < " " or c == "\x7f" for c in parsed.argument)
