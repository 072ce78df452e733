# SPDX-License-Identifier: MIT
"""What is fuzzed: octets of a client, by entry, and what must hold whatever they are. ENTRIES has the names.

The octet 0xFE stands, with the octet n behind it, for 64 n times the octet before it: what makes lines too long and
messages too large is short for the fuzzer. A fault is an AssertionError, or whatever the code raises that it must not.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from relay.identity import is_allowed, unmapped
from relay.smtp import auth as smtp_auth
from relay.smtp import command, proxy
from relay.smtp.backend import SessionSettings
from relay.smtp.budget import Budget
from relay.smtp.command import line_limit
from relay.smtp.lineio import DataTooLarge, Disconnected, LineIO, LineTooLong, TlsHello
from relay.smtp.reply import Reject, Reply
from relay.spool import Spool
from tests.support.wire import ENVELOPE, LOGIN, converse, line_io, room

_MOST_OCTETS = 400
_ROOM = 300  # for all messages together: 452 and 552 are both within reach
_SETTINGS = SessionSettings("mail.example.com", _MOST_OCTETS, 3, budget=Budget(_ROOM))
_TRANSACTION = ENVELOPE.removesuffix(b"DATA\r\n")
_AHEAD = (
    b"",
    b"EHLO c\r\n",
    LOGIN,
    LOGIN + _TRANSACTION,
    LOGIN + ENVELOPE,
    b"EHLO c\r\nAUTH ",
    LOGIN + _TRANSACTION + b"BDAT ",
    LOGIN + _TRANSACTION + b"BDAT 4\r\ntext",
)
_RUN = re.compile(rb"([^\n])\xfe(.)", re.DOTALL)  # not of line ends: thousands of lines only cost time
_REPLY = re.compile(rb"(?:[2-5][0-9]{2}-[ -~]*\r\n)*([2-5][0-9]{2}) ([ -~]*)\r\n")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_IN_A_DOMAIN = re.compile(r'[\x00-\x20\x7f"<>(),;\\]')
_TLS_HELLO = re.compile(rb"\x16\x03|\x80.\x01[\x00\x03]")
_CHUNK = re.compile(rb"BDAT ([0-9]{1,9})( {1,9}LAST)?\r?\n", re.IGNORECASE)


def run(entry: str, octets: bytes) -> None:
    """One execution."""
    if b"\xfe" in octets:
        octets = _RUN.sub(lambda found: found[1] * (64 * found[2][0]), octets, count=3)
    ENTRIES[entry](octets)


def _session(octets: bytes) -> None:
    """Replies are well formed, none tells of a fault, nothing stays behind, and segments change nothing.

    The first octet says what came ahead, the second is the size of the segments.
    """
    if len(octets) < 2:
        return
    how, size, octets = octets[0], octets[1], octets[2:]
    ahead, anonymous, ending = _AHEAD[how % 8], bool(how & 8), TimeoutError if how & 16 else None
    outcome = converse([ahead + octets], anonymous=anonymous, settings=_SETTINGS, ending=ending)
    codes = _codes(outcome.replies)
    told = codes[-1] in (b"421", b"221") or _TLS_HELLO.search(octets)  # who speaks TLS is not answered in its own words
    assert ending is None or told, "a client that waits is not told the end"
    for content, paths in zip(outcome.contents, outcome.paths, strict=True):
        assert len(content) <= _ROOM
        assert 1 <= len(paths[1:]) <= 3
    segments = _cut(octets, size)
    if len(segments) > 1:
        again = converse([ahead, *segments], anonymous=anonymous, settings=_SETTINGS, ending=ending)
        assert again.without_writes() == outcome.without_writes()
    assert _SETTINGS.budget.used == 0


def _codes(replies: bytes) -> list[bytes]:
    codes = []
    at = 0
    while at < len(replies):
        match = _REPLY.match(replies, at)
        assert match, replies[at : at + 80]
        assert match[1] != b"421" or not match[2].startswith(b"4.3.0"), "a fault of the session"
        codes.append(match[1])
        at = match.end()
    return codes


def _cut(octets: bytes, size: int) -> list[bytes]:
    """Segments of that size, or as large as forty of them have to be; 0: all in one."""
    size = max(size, len(octets) // 40 + 1) if size else len(octets) + 1
    return [octets[at : at + size] for at in range(0, len(octets), size)]


def _framing(octets: bytes) -> None:
    """Lines, mail data and chunks are those of the standard, however they are cut.

    The first octet says whether a bare LF ends a line of the data too, the second is the size of the segments.
    """
    if len(octets) < 2:
        return
    bare_lf, size, octets = bool(octets[0] & 1), octets[1], octets[2:]
    reader, _ = line_io(_cut(octets, size), bare_lf=bare_lf)
    assert list(_read(reader)) == list(_by_the_letter(octets, bare_lf))


def _read(reader: LineIO) -> Iterator[object]:
    while True:
        try:
            line = reader.read_line()
            yield line
            if line == b"DATA":
                yield reader.read_data(_MOST_OCTETS, room())
            elif chunk := _CHUNK.fullmatch(line + b"\n"):
                spool = Spool()
                reader.read_chunk(int(chunk[1]), spool)
                yield spool.finish()
        except (LineTooLong, DataTooLarge) as fault:
            yield type(fault)
        except TlsHello:
            yield TlsHello
            return
        except Disconnected:
            return


def _by_the_letter(octets: bytes, bare_lf: bool) -> Iterator[object]:
    """What _read() has to give, out of all the octets at once."""
    line_end, data_ends = (b"\n", (b".", b".\r")) if bare_lf else (b"\r\n", (b".",))
    while not _TLS_HELLO.match(octets):
        line, found, octets = octets.partition(b"\n")
        if not found:
            return
        if len(line) + 1 > line_limit(line):
            yield LineTooLong
            continue
        line = line.removesuffix(b"\r")
        yield line
        if line == b"DATA":
            *lines, rest = octets.split(line_end)
            ends = [number for number, line in enumerate(lines) if line in data_ends]
            if not ends:
                return
            content = b"".join(line.removeprefix(b".") + line_end for line in lines[: ends[0]])
            yield content if len(content) <= _MOST_OCTETS else DataTooLarge
            octets = line_end.join((*lines[ends[0] + 1 :], rest))
        elif chunk := _CHUNK.fullmatch(line + b"\n"):
            size = int(chunk[1])
            if size > len(octets):
                return
            yield octets[:size]
            octets = octets[size:]
    yield TlsHello


def _bdat(octets: bytes) -> None:
    """Chunks and their replies are those of RFC 3030. The first octet is the size of the segments."""
    if not octets:
        return
    segments = _cut(octets[1:], octets[0])
    outcome = converse([b"EHLO c\r\n" + _TRANSACTION, *segments], anonymous=True, settings=_SETTINGS)
    wanted, content = _by_rfc_3030(octets[1:])
    assert _codes(outcome.replies)[: 4 + len(wanted)] == [b"220", b"250", b"250", b"250", *wanted]
    assert content is None or outcome.contents[0] == content
    assert _SETTINGS.budget.used == 0


def _by_rfc_3030(octets: bytes) -> tuple[list[bytes], bytes | None]:
    """The replies due to BDAT commands, up to the end of the transaction or some other line; and the message."""
    codes: list[bytes] = []
    content = b""
    while chunk := _CHUNK.match(octets):
        size, octets = int(chunk[1]), octets[chunk.end() :]
        if size > len(octets):
            break
        content, octets = content + octets[:size], octets[size:]
        if len(content) > _ROOM:
            return [*codes, b"552" if len(content) > _MOST_OCTETS else b"452"], None
        codes.append(b"250")
        if chunk[2]:
            return codes, content
    return codes, None


def _commands(octets: bytes) -> None:
    """A command line is refused, or has only what a command may have; whatever its verb, by the parser of each verb."""
    line = octets.partition(b"\n")[0]
    try:
        argument = command.parse(line).argument
    except Reject:
        return
    assert argument == argument.strip(" \t")
    assert not _CONTROL.search(argument)
    with suppress(Reject):
        path, parameters = command.parse_mail(argument)
        assert not path or _is_plausible(path, parameters.utf8)
    for utf8 in (False, True):
        with suppress(Reject):
            assert _is_plausible(command.parse_rcpt(argument, utf8=utf8)[0], utf8)
    size, last = command.parse_bdat(argument)
    words = argument.upper().split()
    assert last is None or (size == int(words[0]) and words[1:] == ["LAST"] * last)


def _is_plausible(path: str, utf8: bool) -> bool:
    """What every address has in common; and it can be compared, which takes long and is tried with some of them."""
    local, _, domain = path.rpartition("@")
    if len(path) % 8 == 0:
        is_allowed(path, ("*@example.com",))
    return (
        bool(local and domain)
        and not _NOT_IN_A_DOMAIN.search(domain)
        and len(path.encode("utf-8")) <= 254
        and (utf8 or path.isascii())
    )


def _auth(octets: bytes) -> None:
    """Two challenges at the most, and a password that stands in the last answer. Each line is an answer."""
    initial, *answers = octets.split(b"\n")
    heard = [initial]
    challenges: list[Reply] = []

    def ask(challenge: Reply) -> bytes:
        challenges.append(challenge)
        assert len(challenges) <= 2
        if not answers:
            raise Disconnected
        heard.append(answers.pop(0))
        return heard[-1]

    try:
        credentials = smtp_auth.exchange(command.parse(b"AUTH " + initial).argument, ask)
    except (Reject, Disconnected):
        return
    credentials.user.encode("utf-8")
    password = credentials.password.reveal()
    said = base64.b64decode((heard[-1].split() or [b""])[-1] + b"===")
    assert said.endswith((password.encode("utf-8"), password.encode("latin-1", "replace")))


def _proxy(octets: bytes) -> None:
    """Read as the server does: it ends, never asks for an octet behind the header, and gives an address or none."""
    taken = 0
    while taken <= len(octets):
        try:
            header = proxy.parse(octets[:taken])
        except proxy.NotProxyProtocol:
            return
        if header.missing == 0:
            if octets.startswith(b"PROXY"):
                assert octets.index(b"\r\n") + 2 == taken <= 107
            else:
                assert 16 + int.from_bytes(octets[14:16], "big") == taken
            assert not header.address or ipaddress.ip_address(unmapped(header.address))
            return
        assert 0 < header.missing <= 4112
        taken += header.missing


ENTRIES: dict[str, Callable[[bytes], None]] = {
    "framing": _framing,
    "commands": _commands,
    "auth": _auth,
    "bdat": _bdat,
    "proxy": _proxy,
    "session": _session,
}
