# SPDX-License-Identifier: MIT
"""What `make dist` has made, for the tests that look into it. Where it is missing they are skipped, or fail in CI."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.relay_process import CHECKOUT

DIST, TOOLS = CHECKOUT / "dist", CHECKOUT / "build" / "tools" / "bin"
# The interpreter outside of the virtual environment: the system's, which every user can run, where it is the same one.
_PYTHON = f"python3.{sys.version_info.minor}"
PLAIN_PYTHON = next(
    str(path) for path in (Path("/usr/bin") / _PYTHON, Path(sys.base_prefix) / "bin" / _PYTHON) if path.exists()
)


def missing(what: str) -> NoReturn:
    """Skip; where GSR_REQUIRE_CLIENTS says that everything must be there, fail."""
    if os.environ.get("GSR_REQUIRE_CLIENTS") == "1":
        pytest.fail(what)
    pytest.skip(what)


def tool(name: str) -> str:
    """One of those in packaging/requirements/tools.in."""
    path = TOOLS / name
    if not path.exists():
        missing(f"{name} is missing: make build/tools/ready")
    return str(path)


def command(name: str, package: str) -> str:
    """The path of a program that Debian has in this package."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is missing (Debian package {package})")
    return path


def single_file() -> Path:
    """dist/graph-smtp-relay.pyz, made from this very source."""
    path = DIST / "graph-smtp-relay.pyz"
    if not path.exists():
        missing("the single file is missing: make pyz")
    with zipfile.ZipFile(path) as archive:
        for source in (*(CHECKOUT / "relay").rglob("*.py"), *(CHECKOUT / "packaging" / "pyz").glob("*.py")):
            inside = source.relative_to(CHECKOUT).as_posix()
            name = f"program/{inside}" if inside.startswith("relay/") else source.name
            if name not in archive.namelist() or archive.read(name) != source.read_bytes():
                missing(f"the single file is older than {inside}: make pyz")
    return path
