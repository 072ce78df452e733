# SPDX-License-Identifier: MIT
"""Puts README, CHANGELOG, CONTRIBUTING, docs/ and the files that they link to into build/site-source, for mkdocs.

They lie there as in the checkout, so that each link leads where it leads in a checkout: `make site` does both.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "build" / "site-source"


def main() -> None:
    shutil.rmtree(SOURCE, ignore_errors=True)
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        copy(page)
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            linked = (page.parent / target).resolve()
            if ":" not in target and linked.is_file() and linked.is_relative_to(ROOT):
                copy(linked)


def copy(path: Path) -> None:
    there = SOURCE / path.relative_to(ROOT)
    there.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, there)


if __name__ == "__main__":
    main()
