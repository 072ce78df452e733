# SPDX-License-Identifier: MIT
"""Every input of the corpus, without a fuzzer: what was found once does not come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.target import run

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_input(path: Path) -> None:
    run(path.read_bytes())


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) >= 30
