# SPDX-License-Identifier: MIT
"""The PROXY protocol, versions 1 and 2: who the client behind a load balancer is. Pure: octets in, address out.

Source: HAProxy, "The PROXY protocol", sections 2.1 and 2.2.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

_V1 = b"PROXY "
_V1_SHORTEST = len(b"PROXY UNKNOWN\r\n")
_V1_LONGEST = 107
_V1_FAMILIES = {b"TCP4": 4, b"TCP6": 6}
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16
_V2_LONGEST = 4096  # addresses and TLVs
_V2_ADDRESS_OCTETS = {1: 4, 2: 16}  # AF_INET, AF_INET6


class NotProxyProtocol(Exception):
    """The connection does not begin with a PROXY header."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """missing: octets that have to come yet, at least; 0: it is whole. address: empty for UNKNOWN and LOCAL."""

    missing: int
    address: str = ""


def parse(octets: bytes) -> ProxyHeader:
    """The header, or as much of it as is there. Raises NotProxyProtocol."""
    if octets[: len(_V2)] == _V2[: len(octets)]:
        return _parse_v2(octets)
    if octets[: len(_V1)] == _V1[: len(octets)]:
        return _parse_v1(octets)
    raise NotProxyProtocol


def _parse_v1(octets: bytes) -> ProxyHeader:
    end = octets.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(octets) >= _V1_LONGEST:
            raise NotProxyProtocol
        # Until its end is known, no octet of what follows may be taken.
        return ProxyHeader(max(_V1_SHORTEST - len(octets), 1))
    words = octets[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return ProxyHeader(0)
    family = _V1_FAMILIES.get(words[1])
    if family is None or len(words) != 6 or not all(_is_port(word) for word in words[4:]):
        raise NotProxyProtocol
    try:
        source, destination = (ipaddress.ip_address(word.decode("ascii")) for word in words[2:4])
    except ValueError:
        raise NotProxyProtocol from None
    if not source.version == destination.version == family:
        raise NotProxyProtocol
    return ProxyHeader(0, str(source))


def _is_port(word: bytes) -> bool:
    return word.isdigit() and len(word) <= 5 and int(word) <= 65535


def _parse_v2(octets: bytes) -> ProxyHeader:
    if len(octets) < _V2_FIXED:
        # The first ones may be those of a version 1 header yet, which can be that short.
        return ProxyHeader(min(_V2_FIXED, _V1_SHORTEST) - len(octets) or _V2_FIXED - len(octets))
    version_command, family_transport = octets[12], octets[13]
    length = int.from_bytes(octets[14:16], "big")
    if version_command not in (0x20, 0x21) or length > _V2_LONGEST:
        raise NotProxyProtocol
    total = _V2_FIXED + length
    if len(octets) < total:
        return ProxyHeader(total - len(octets))
    size = _V2_ADDRESS_OCTETS.get(family_transport >> 4, 0)
    if version_command == 0x20 or size == 0:  # LOCAL: a health check; or an address family we have no use for
        return ProxyHeader(0)
    if length < 2 * size + 4:
        raise NotProxyProtocol
    return ProxyHeader(0, str(ipaddress.ip_address(octets[_V2_FIXED : _V2_FIXED + size])))
