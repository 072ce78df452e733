# SPDX-License-Identifier: MIT
"""Writes packaging/systemd/ and packaging/init.d/ from the templates in relay/units/, with the packages' paths.

Run it after every change of a template: python3 packaging/make_service_files.py. A test compares.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the checkout's relay, not an installed one

from relay.serviceunit import NAME, filled_in  # noqa: E402

COMMAND, CONFIG = f"/usr/bin/{NAME}", Path(f"/etc/{NAME}/config.yaml")


def outputs() -> dict[Path, str]:
    """What to write where."""
    units = files("relay") / "units"
    return {
        ROOT / "packaging" / directory / name: filled_in((units / template).read_text("utf-8"), COMMAND, CONFIG)
        for directory, name, template in (
            ("systemd", f"{NAME}.service", f"{NAME}.service"),
            ("init.d", NAME, f"{NAME}.init"),
        )
    }


def main() -> None:
    for path, text in outputs().items():
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755 if path.parent.name == "init.d" else 0o644)


if __name__ == "__main__":
    main()
