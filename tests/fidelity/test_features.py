# SPDX-License-Identifier: MIT
"""docs/fidelity.md says what really happens."""

from __future__ import annotations

from tests.fidelity.features import PAGE, page


def test_the_page_is_what_really_happens() -> None:
    assert PAGE.read_text("utf-8") == page(), "run python -m tests.fidelity.features"
