# SPDX-License-Identifier: MIT
"""Names that do not come again, and identities that do not show their password."""

from __future__ import annotations

import re

from relay.credentials import Secret
from relay.identity import Credentials, Identity, new_id


def test_new_id() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"[0-9A-F]{16}", name) for name in ids)


def test_no_repr_shows_the_password() -> None:
    credentials = Credentials("scanner", Secret("Passw0rd"))
    identity = Identity("scanner", "scanner@example.com", credentials)
    assert "Passw0rd" not in f"{credentials!r} {credentials} {identity!r} {identity}"
