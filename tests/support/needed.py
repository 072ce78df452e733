# SPDX-License-Identifier: MIT
"""Programs of others that a test needs."""

from __future__ import annotations

import os
import shutil
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
