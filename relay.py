#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Starts graph-smtp-relay from a checkout: python3 relay.py … does the same as the installed command."""

import sys
from pathlib import Path

from relay.bootstrap import run

if __name__ == "__main__":
    sys.exit(run(Path(__file__).resolve()))
