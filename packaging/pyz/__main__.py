#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where Python begins with the single file. It has to be readable for every Python 3, to say that one is too old."""

import sys

if sys.version_info < (3, 11):
    import os

    for newer in ("python3.14", "python3.13", "python3.12", "python3.11"):
        try:
            os.execvp(newer, [newer] + sys.argv)
        except OSError:  # there is none
            continue
    sys.exit(
        "graph-smtp-relay: Python 3.11 or newer is needed, and this is Python %d.%d; install one beside it, "
        "for instance with: dnf install python3.11" % sys.version_info[:2]
    )

import single_file

single_file.main()
