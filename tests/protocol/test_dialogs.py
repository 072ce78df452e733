# SPDX-License-Identifier: MIT
"""Every dialogue, in whole pieces, octet by octet, and cut at random: framing must not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dialog import Player, at_random, read, single, whole

FILES = sorted((Path(__file__).parent / "dialogs").glob("*.smtp"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("cut", ["whole", "single", "random"])
def test_dialogue(path: Path, cut: str, seed: str) -> None:
    print(f"RELAY_TEST_SEED={seed}")
    cuts = {"whole": whole, "single": single, "random": at_random(f"{seed} {path.stem}")}
    Player(read(path), cuts[cut]).play()


def test_there_are_dialogues_and_each_says_its_fact() -> None:
    assert len(FILES) >= 60
    for path in FILES:
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        assert first.startswith(f"# {path.name}: "), path.name
