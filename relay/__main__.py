# SPDX-License-Identifier: MIT
"""python -m relay."""

from relay.bootstrap import console

console()
