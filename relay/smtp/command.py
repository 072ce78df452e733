# SPDX-License-Identifier: MIT
"""Octets of a command line → verb, path, parameters (RFC 5321 §4.1). Pure: knows no socket and no session.

Lenient where old devices need it and nothing is risked: a blank behind FROM: or TO:, a missing pair of angle
brackets, parameters of extensions that we do not offer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from relay.smtp import reply as replies
from relay.smtp.reply import Reject

# RFC 5321 §4.5.3.1.4 gives 512 octets, its extensions add to MAIL and RCPT, RFC 4954 §4 asks 12,288 for AUTH.
DEFAULT_LIMIT = 512
_LIMITS = {b"MAIL": 2048, b"RCPT": 2048, b"AUTH": 12288}
LONGEST_LINE = 12288

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
_QUOTED = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"'
# RFC 6531 §3.3; no surrogates, since those stand for octets that are no UTF-8
_UTF8 = "\u00a0-\ud7ff\uf900-\ufffd\U00010000-\U0010ffff"
# Dots beyond dot-string are seen in real addresses (a..b@, a.@): harmless here, Graph has the last word.
_LOCAL = "(?=[.]*[{more}{atext}])[.{more}{atext}]+|{quoted}"
_LABEL = "[A-Za-z0-9_{more}](?:[A-Za-z0-9_{more}-]{{0,61}}[A-Za-z0-9_{more}])?"  # RFC 1035 §2.3.4: 63 octets


@cache
def _mailbox(more: str) -> re.Pattern[str]:
    """Mailbox of RFC 5321 §4.1.2; more: characters beyond ASCII that it may have, which takes long to compile."""
    quoted = _QUOTED.replace("\\x7e", "\\x7e" + more)
    local = _LOCAL.format(atext=_ATEXT, more=more, quoted=quoted)
    label = _LABEL.format(more=more)
    domain = rf"{label}(?:\.{label})*\.?|\[(?P<literal>[A-Za-z0-9:.]+)\]"
    return re.compile(f"(?P<local>{local})@(?P<domain>{domain})")


_MAILBOX = _mailbox("")
# ++ gives nothing back, so that no path makes it try over and over; without the + it would go octet by octet.
_PATH = re.compile(r'<(?:@[^:<>"]*:)?(?P<inside>(?:[^<>"]++|"(?:[^"\\]|\\.)*")*)>')
_OURS = frozenset(("SIZE", "BODY", "SMTPUTF8"))  # the parameters of MAIL that mean something here
_SIZE = re.compile(r"[0-9]{1,20}")
_CHUNK = re.compile(r"(?P<size>[0-9]{1,20})(?:[ \t]+(?P<more>.+))?")


def line_limit(line: bytes) -> int:
    """Octets, CR LF included, that a line opening with this verb may have."""
    return _LIMITS.get(line[:4].upper(), DEFAULT_LIMIT)


class Command(NamedTuple):
    """One command line. verb is upper case; argument is what follows it, without blanks at its ends."""

    verb: str
    argument: str


class MailParameters(NamedTuple):
    """Parameters of MAIL that mean something to us. ignored: names of the others, for the debug log."""

    size: int | None = None
    utf8: bool = False
    ignored: tuple[str, ...] = ()


_NO_PARAMETERS = MailParameters()


def parse(line: bytes) -> Command:
    """The command in a line without its line end. Raises Reject for octets that no command has."""
    verb, _, rest = line.partition(b" ")
    argument = rest.decode("utf-8", "surrogateescape").strip(" \t")
    if not argument.isprintable() and any(c < " " or c == "\x7f" for c in argument):
        raise Reject(replies.SYNTAX)
    # The case of octets folds in ASCII alone; that of text would read RSET from a long s.
    return Command(verb.rstrip(b"\t").upper().decode("latin-1"), argument)


def parse_mail(argument: str) -> tuple[str, MailParameters]:
    """`FROM:<reverse-path> [parameters]` → address (empty for <>) and parameters. Raises Reject (501)."""
    path, rest = _split_path(argument, "FROM")
    parameters = _mail_parameters(_parameters(rest)) if rest else _NO_PARAMETERS
    if path and not is_address(path, utf8=parameters.utf8):
        raise Reject(replies.BAD_SENDER)
    return path, parameters


def parse_rcpt(argument: str, *, utf8: bool = False) -> tuple[str, tuple[str, ...]]:
    """`TO:<forward-path> [parameters]` → address and the names of the ignored parameters. Raises Reject (501, 553).

    utf8: SMTPUTF8 was said at MAIL, without which an address is ASCII (RFC 6531 §3.3).
    """
    path, rest = _split_path(argument, "TO")
    if not is_address(path, utf8=utf8):
        raise Reject(replies.BAD_RECIPIENT)
    return path, tuple(_parameters(rest)) if rest else ()


def parse_bdat(argument: str) -> tuple[int, bool | None]:
    """`size [LAST]` → octets of the chunk, and whether it is the last (RFC 3030 §2); None: it is malformed.

    A size is known of a malformed one too where it says one, since that many octets follow.
    """
    match = _CHUNK.fullmatch(argument)
    if match is None:
        return 0, None
    size, more = int(match["size"]), match["more"]
    if more is None:
        return size, False
    return size, True if more.upper() == "LAST" else None


def is_address(text: str, *, utf8: bool = False) -> bool:
    """Whether this is local-part@domain within the sizes of RFC 5321 §4.5.3.1, which count octets."""
    match = (_mailbox(_UTF8) if utf8 else _MAILBOX).fullmatch(text)
    if match is None or not (match["literal"] is None or _is_literal(match["literal"])):
        return False
    # All together 254 (§4.5.3.1.3: a path has angle brackets too), which leaves fewer for the domain than its own 255.
    if text.isascii():
        return match.end("local") <= 64 and len(text) <= 254
    return len(match["local"].encode()) <= 64 and len(text.encode()) <= 254


def _is_literal(text: str) -> bool:
    """192.0.2.1 or IPv6:2001:db8::1 (RFC 5321 §4.1.3)."""
    try:
        if text[:5].upper() == "IPV6:":
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _split_path(argument: str, keyword: str) -> tuple[str, str]:
    head, colon, tail = argument.partition(":")
    if not colon or head.strip(" \t").upper() != keyword:
        raise Reject(replies.SYNTAX)
    tail = tail.lstrip(" \t")
    if tail.startswith("<"):
        match = _PATH.match(tail)
        if match is None:
            raise Reject(replies.SYNTAX)
        path, rest = match["inside"].strip(" \t"), tail[match.end() :]
        if rest and rest[0] not in " \t":
            raise Reject(replies.SYNTAX)
        return path, rest
    path, _, rest = tail.partition(" ")
    if not path:
        raise Reject(replies.SYNTAX)
    return path, rest


def _parameters(rest: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for word in rest.split():
        keyword, equals, value = word.partition("=")
        name = keyword.upper()
        if name in found and name in _OURS:  # which of them would hold?
            raise Reject(replies.SYNTAX)
        found[name] = value if equals else None
    return found


def _mail_parameters(given: Mapping[str, str | None]) -> MailParameters:
    size: int | None = None
    if "SIZE" in given:  # RFC 1870 §4
        value = given["SIZE"] or ""
        if not _SIZE.fullmatch(value):
            raise Reject(replies.SYNTAX)
        size = int(value)
    if "BODY" in given and (given["BODY"] or "").upper() not in ("7BIT", "8BITMIME"):  # RFC 6152 §2
        raise Reject(replies.SYNTAX)
    if given.get("SMTPUTF8") is not None:  # RFC 6531 §3.4: it takes no value
        raise Reject(replies.SYNTAX)
    ignored = tuple(name for name in given if name not in _OURS)
    return MailParameters(size, "SMTPUTF8" in given, ignored)
