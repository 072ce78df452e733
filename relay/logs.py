# SPDX-License-Identifier: MIT
"""The log: one event word a line, facts as named fields, as text or JSON. The only module that knows the formats.

ERROR: someone must act, and the line says what. WARNING: worth a look. A client's fault is INFO. The dialogue is DEBUG.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

from relay.config import LogConfig

try:  # python-json-logger 3 moved it; the old place then warns
    from pythonjsonlogger.json import JsonFormatter
except ImportError:  # Debian 12 has 2.0
    from pythonjsonlogger.jsonlogger import JsonFormatter  # type: ignore[attr-defined,no-redef]

# Every field a line may carry, in the order in which text lines show them. docs/logging.md explains each.
FIELDS = (
    "message_id",
    "session",
    "client",
    "user",
    "mailbox",
    "sender",
    "recipients",
    "size_bytes",
    "form",
    "attempts",
    "duration_ms",
    "graph_request_id",
    "reply",
    "reason",
    "status",
    "graph_code",
    "entra_code",
    "delay_s",
    "possible_duplicate",
    "rewritten_from",
    "not_carried",
    "limit_bytes",
    "address",
    "version",
    "path",
    "task",
    "subject",
    "command",
    "parameters",
    "signal",
    "sessions",
    "tls",
)

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    given = record.__dict__
    return {name: given[name] for name in FIELDS if given.get(name) is not None}


class JsonLines(JsonFormatter):
    """One JSON object a line: timestamp, level, event, then the facts."""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["timestamp"] = _timestamp(record)
        log_data["level"] = record.levelname.lower()
        log_data["event"] = record.getMessage()
        log_data.update(_facts(record))
        if record.exc_info:
            log_data["traceback"] = self.formatException(record.exc_info)


class TextLines(logging.Formatter):
    """`time LEVEL event name=value …`; values with blanks or control characters are quoted as JSON strings."""

    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {name}={_plain(value)}" for name, value in _facts(record).items())
        line = f"{_timestamp(record)} {record.levelname} {record.getMessage()}{facts}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text and text.isprintable() and not any(c in text for c in ' "='):
        return text
    return text if text.startswith("[") else json.dumps(text)


class _QuietFaults:
    """Mixin for handlers: a log that cannot be written is said once a minute on standard error, in one line."""

    _said_at = -60.0

    def handleError(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._said_at >= 60:
            self._said_at = now
            fault = sys.exc_info()[1]
            print(f"graph-smtp-relay: the log cannot be written: {fault}; free space or change `log`", file=sys.stderr)


class _StreamHandler(_QuietFaults, logging.StreamHandler[Any]):
    pass


class _FileHandler(_QuietFaults, logging.FileHandler):
    pass


def open_handler(config: LogConfig) -> logging.Handler:
    """A handler by the configuration. Raises OSError when the file cannot be opened."""
    handler: logging.Handler
    if config.path:
        handler = _FileHandler(config.path, encoding="utf-8", errors="backslashreplace")
    else:
        handler = _StreamHandler(sys.stdout)
    as_text = config.format == "text" or (config.format == "auto" and not config.path and sys.stdout.isatty())
    handler.setFormatter(TextLines() if as_text else JsonLines(json_ensure_ascii=False))
    return handler


def set_up(config: LogConfig) -> None:
    """Send our own events to the configured place, and warnings of the libraries with them. Raises OSError."""
    handler = open_handler(config)
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, _QuietFaults):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    # The libraries' debug lines quote URLs and headers; only what they warn about is let through.
    root.setLevel(logging.WARNING)
    for library in ("urllib3", "requests", "asyncio"):
        logging.getLogger(library).setLevel(logging.ERROR)
    # msal logs an answer that is no JSON as a whole, with what may be a token in it; whatever it finds it raises too.
    logging.getLogger("msal").setLevel(logging.CRITICAL)
    logging.getLogger("relay").setLevel(_LEVELS[config.level])
