# SPDX-License-Identifier: MIT
"""The PROXY header: what it says, what it is not, and that never an octet behind it is asked for."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.proxy import NotProxyProtocol, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
PROXY, LOCAL = 0x21, 0x20
TCP4, TCP6, UNIX, UNSPEC = 0x11, 0x21, 0x31, 0x00
BEHIND = b"\x16\x03\x01EHLO client\r\n"


def v2(command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload)) + payload


def addresses(source: str, destination: str, tlvs: bytes = b"") -> bytes:
    packed = [ipaddress.ip_address(one).packed for one in (source, destination)]
    return b"".join(packed) + struct.pack("!HH", 40000, 25) + tlvs


HEADERS = {
    "v1 IPv4": (b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n", "192.0.2.1"),
    "v1 IPv6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 25\r\n", "2001:db8::1"),
    "v1 shortest IPv4": (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 1\r\n", "1.1.1.1"),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", ""),
    "v1 unknown with words": (b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n", ""),
    "v1 longest": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", ""),
    "v2 IPv4": (v2(PROXY, TCP4, addresses("192.0.2.1", "192.0.2.2")), "192.0.2.1"),
    "v2 IPv6": (v2(PROXY, TCP6, addresses("2001:db8::1", "2001:db8::2")), "2001:db8::1"),
    "v2 with TLVs": (v2(PROXY, TCP4, addresses("192.0.2.1", "192.0.2.2", b"\x04\x00\x02ab")), "192.0.2.1"),
    "v2 local": (v2(LOCAL, UNSPEC, b""), ""),
    "v2 local with addresses": (v2(LOCAL, TCP4, addresses("192.0.2.1", "192.0.2.2")), ""),
    "v2 unix": (v2(PROXY, UNIX, b"\0" * 216), ""),
    "v2 unspecified": (v2(PROXY, UNSPEC, b"abc"), ""),
}
NO_HEADERS = {
    "SMTP": b"EHLO client.example.com\r\n",
    "TLS": b"\x16\x03\x01\x02\x00",
    "lower case": b"proxy TCP4 192.0.2.1 192.0.2.2 1 1\r\n",
    "v1 family": b"PROXY TCP5 192.0.2.1 192.0.2.2 1 1\r\n",
    "v1 wrong family": b"PROXY TCP6 192.0.2.1 192.0.2.2 1 1\r\n",
    "v1 no address": b"PROXY TCP4 localhost 192.0.2.2 1 1\r\n",
    "v1 octets": b"PROXY TCP4 \xff\xfe 192.0.2.2 1 1\r\n",
    "v1 word missing": b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
    "v1 word too many": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 1 1\r\n",
    "v1 no destination": b"PROXY TCP4 192.0.2.1 nowhere 1 1\r\n",
    "v1 two families": b"PROXY TCP4 192.0.2.1 ::1 1 1\r\n",
    "v1 no port": b"PROXY TCP4 192.0.2.1 192.0.2.2 smtp 1\r\n",
    "v1 port too large": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
    "v1 nothing": b"PROXY \r\n       ",
    "v1 two blanks": b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 1\r\n",
    "v1 bare LF and on": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 1\n" + b"EHLO x\n" * 20,
    "v1 one octet too long": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "v2 version": v2(0x11, TCP4, addresses("192.0.2.1", "192.0.2.2")),
    "v2 command": v2(0x22, TCP4, addresses("192.0.2.1", "192.0.2.2")),
    "v2 length too long": SIGNATURE + struct.pack("!BBH", PROXY, TCP4, 4097),
    "v2 length too short for its family": v2(PROXY, TCP6, addresses("192.0.2.1", "192.0.2.2")),
    "v2 signature broken": SIGNATURE[:-1] + b"\r" + b"\0" * 16,
}


def read(octets: bytes) -> tuple[str, int]:
    """The address, and how many octets were taken, when a reader asks for what is missing and never for more."""
    taken = 0
    while True:
        header = parse(octets[:taken])
        if header.missing == 0:
            return header.address, taken
        assert header.missing > 0
        if taken == len(octets):
            raise EOFError
        taken = min(taken + header.missing, len(octets))


@pytest.mark.parametrize(("octets", "address"), HEADERS.values(), ids=HEADERS.keys())
def test_header(octets: bytes, address: str) -> None:
    """The whole of it is taken, and not one octet behind it."""
    assert read(octets) == (address, len(octets))
    assert read(octets + BEHIND) == (address, len(octets))


@pytest.mark.parametrize(("octets", "address"), HEADERS.values(), ids=HEADERS.keys())
def test_header_that_comes_octet_by_octet(octets: bytes, address: str) -> None:
    for cut in range(len(octets)):
        assert 0 < parse(octets[:cut]).missing <= len(octets) - cut
    assert parse(octets).address == address


@pytest.mark.parametrize("octets", NO_HEADERS.values(), ids=NO_HEADERS.keys())
def test_no_header(octets: bytes) -> None:
    with pytest.raises(NotProxyProtocol):
        read(octets)


meaningful = st.sampled_from(
    [
        b"PROXY ",
        b"TCP4 ",
        b"TCP6 ",
        b"UNKNOWN",
        b"192.0.2.1 ",
        b"::1 ",
        b"1 ",
        b"\r\n",
        SIGNATURE,
        b"\x21",
        b"\x20",
        b"\0",
    ]
)


@given(st.lists(st.one_of(meaningful, st.binary(max_size=20)), max_size=12).map(b"".join))
def test_any_octets_are_a_header_or_none(octets: bytes) -> None:
    try:
        address, taken = read(octets)
    except (NotProxyProtocol, EOFError):
        return
    assert taken <= len(octets)
    assert address == "" or ipaddress.ip_address(address)


@given(st.ip_addresses(), st.ip_addresses(), st.binary(max_size=200), st.binary(max_size=40))
def test_round_trip(
    source: ipaddress.IPv4Address, destination: ipaddress.IPv4Address, tlvs: bytes, more: bytes
) -> None:
    if source.version != destination.version:
        destination = source
    family = TCP4 if source.version == 4 else TCP6
    binary = v2(PROXY, family, addresses(str(source), str(destination), tlvs))
    text = f"PROXY TCP{source.version} {source} {destination} 40000 25\r\n".encode()
    for octets in (binary, text):
        assert read(octets + more) == (str(source), len(octets))
