# SPDX-License-Identifier: MIT
"""The version, and nothing else: importing it loads no ssl, socket or threading before the gevent patch."""

__version__ = "0.1.0"
