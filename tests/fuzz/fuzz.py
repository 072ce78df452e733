# SPDX-License-Identifier: MIT
"""Runs one entry of the target under atheris: fuzz.py ENTRY, then arguments of libFuzzer. `make fuzz` runs them all.

Without atheris it says so and ends well.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

try:
    import atheris
except ImportError as reason:
    print(f"fuzz: skipped, since atheris cannot be had here: {reason}")
    sys.exit(0)

sys.path.insert(0, str(Path(__file__).parents[2]))

entry = sys.argv.pop(1)

# Each branch that is counted takes its time. What these do is not asked here, or not by this entry.
not_counted = ["relay.clock", "relay.config", "relay.logs", "relay.stats", "relay.smtp.reply"]
if entry != "framing":
    not_counted.append("relay.smtp.lineio")

with atheris.instrument_imports(include=["relay"], exclude=not_counted):
    from tests.fuzz.target import run

logging.disable(logging.CRITICAL)  # each odd session would say so
atheris.Setup(sys.argv, partial(run, entry))
atheris.Fuzz()
