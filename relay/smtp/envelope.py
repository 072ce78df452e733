# SPDX-License-Identifier: MIT
"""The envelope of one mail transaction (RFC 5321 §2.3.1), frozen at DATA and handed down with the content."""

from __future__ import annotations

from typing import NamedTuple


class Envelope(NamedTuple):
    """reverse_path is empty for MAIL FROM:<>. forward_paths: addresses as the client spelled them, in order."""

    message_id: str  # our own, as in the log and in the reply
    reverse_path: str
    forward_paths: tuple[str, ...]
