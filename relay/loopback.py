# SPDX-License-Identifier: MIT
"""Which host names stay on this machine. Pure: nothing is looked up."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether host, an address (in brackets perhaps) or a name, is this machine itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
