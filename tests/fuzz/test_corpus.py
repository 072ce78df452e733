# SPDX-License-Identifier: MIT
"""Every input of the corpus, without a fuzzer: what was found once does not come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.target import ENTRIES, run

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*/*"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_input(path: Path) -> None:
    run(path.parent.name, path.read_bytes())


def test_there_is_a_corpus_for_each_entry() -> None:
    for entry in ENTRIES:
        assert len([path for path in CORPUS if path.parent.name == entry]) >= 7, entry
