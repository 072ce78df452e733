# SPDX-License-Identifier: MIT
"""What a test needs that a machine may not have."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest


def need(program: str | Path, package: str) -> None:
    """Skip the test where the program is missing; fail it where GSR_REQUIRE_CLIENTS says that all must be there."""
    if not program or shutil.which(program) or Path(program).exists():
        return
    reason = f"{program} is missing (Debian package {package})"
    if os.environ.get("GSR_REQUIRE_CLIENTS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
