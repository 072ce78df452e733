# SPDX-License-Identifier: MIT
"""Python's own collection of odd messages goes through: delivered, or clearly refused, and nothing breaks."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

import pytest

from tests.e2e.conftest import Login
from tests.support.relay_process import RelayProcess
from tests.support.sandbox_client import Upstream

DATA = Path(sysconfig.get_path("stdlib"), "test", "test_email", "data")
FILES = sorted(path for path in DATA.glob("*") if path.is_file()) if DATA.is_dir() else []
ABSENT = pytest.mark.skipif(not FILES, reason="this Python has no test suite (Debian package libpython3-testsuite)")


def as_it_lies(octets: bytes) -> bytes:
    return octets


def with_crlf(octets: bytes) -> bytes:
    return re.sub(rb"\r\n|\r|\n", b"\r\n", octets)


@ABSENT
@pytest.mark.parametrize("line_ends", [as_it_lies, with_crlf])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_message(relay: RelayProcess, upstream: Upstream, login: Login, path: Path, line_ends: object) -> None:
    assert callable(line_ends)
    with relay.smtp(login.user, login.password) as client:
        client.mail(login.user)
        client.rcpt("you@example.org")
        code, text = client.data(line_ends(path.read_bytes()))
        assert code == 250 or 500 <= code < 600, text
        assert re.match(rf"{code // 100}\.\d\.\d+ ", text.decode("ascii"))
        assert client.noop()[0] == 250
    assert len(upstream.messages()) == (code == 250)
