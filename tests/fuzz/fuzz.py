# SPDX-License-Identifier: MIT
"""Runs the target under atheris: `make fuzz`. Arguments are libFuzzer's. Without atheris it says so and ends well."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

try:
    import atheris
except ImportError as reason:
    print(f"fuzz: skipped, since atheris cannot be had here: {reason}")
    sys.exit(0)

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["relay.smtp", "relay.credentials", "relay.identity"]):
    from tests.fuzz.target import run

logging.disable(logging.CRITICAL)  # each odd session would say so
atheris.Setup(sys.argv, run)
atheris.Fuzz()
