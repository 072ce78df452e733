# SPDX-License-Identifier: MIT
"""The log: one event word a line, facts as named fields, as text or JSON. The only module that knows the formats.

ERROR: someone must act, and the line says what. WARNING: worth a look. A client's fault is INFO. The dialogue is DEBUG.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any

from relay.config import LogConfig
from relay.stats import RESULTS

try:  # python-json-logger 3 moved it; the old place then warns
    from pythonjsonlogger.json import JsonFormatter
except ImportError:  # Debian 12 has 2.0
    from pythonjsonlogger.jsonlogger import JsonFormatter  # type: ignore[attr-defined]

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
    "form_reason",
    "attempts",
    "duration_ms",
    "waited_ms",
    "token_ms",
    "graph_ms",
    "graph_request_id",
    "reply",
    "reason",
    "status",
    "graph_code",
    "entra_code",
    "delay_s",
    "possible_duplicate",
    "found_in_sent_items",
    "resend_of",
    "concurrency",
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
    "days_left",
    "worker",
    "pid",
)

# In JSON, the line of a message has these in any case, empty where there is nothing to say: a log is read by columns.
_OF_A_MESSAGE = dict.fromkeys(
    (
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
    ),
    "",
)
_MESSAGE_EVENTS = frozenset(RESULTS)
_PLACE_OF = {name: place for place, name in enumerate(FIELDS)}
_LONGEST_LINE = 65536

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name in _PLACE_OF and value is not None}


def _traceback(fault: BaseException | None) -> str:
    """Where it happened, innermost fault first, without the texts: those of unforeseen ones may quote a message."""
    rows: list[str] = []
    seen: set[int] = set()
    while fault is not None and id(fault) not in seen:
        seen.add(id(fault))
        rows += (f"Traceback: {type(fault).__qualname__}\n", *traceback.format_tb(fault.__traceback__))
        fault = fault.__cause__ or (None if fault.__suppress_context__ else fault.__context__)
    return "".join(rows).rstrip("\n")


class JsonLines(JsonFormatter):
    """One JSON object a line: timestamp, level, event, then the facts."""

    _encode = json.JSONEncoder(ensure_ascii=False, default=str).encode

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """With an encoder that is made once, and not for each line."""
        return self._encode(log_data)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["timestamp"] = _timestamp(record)
        log_data["level"] = record.levelname.lower()
        log_data["event"] = event = record.getMessage()
        if event in _MESSAGE_EVENTS:
            log_data.update(_OF_A_MESSAGE)
        log_data.update(_facts(record))
        if record.exc_info:
            log_data["traceback"] = _traceback(record.exc_info[1])


class TextLines(logging.Formatter):
    """`time LEVEL event name=value …`; values that could be taken for something else are quoted as JSON strings.

    A traceback follows, indented, so that no line of it looks like one of ours. with_time: not where each line is
    given its time by who keeps it.
    """

    def __init__(self, *, with_time: bool = True) -> None:
        super().__init__()
        self._with_time = with_time

    def format(self, record: logging.LogRecord) -> str:
        in_order = sorted(_facts(record).items(), key=lambda fact: _PLACE_OF[fact[0]])
        facts = "".join(f" {name}={_plain(value)}" for name, value in in_order)
        time = f"{_timestamp(record)} " if self._with_time else ""
        line = f"{time}{record.levelname} {_plain(record.getMessage())}{facts}"
        if record.exc_info:
            rows = _traceback(record.exc_info[1]).splitlines()
            line += "".join(f"\n    {row if row.isprintable() else ascii(row)}" for row in rows)
        return line


class _JournalLines(logging.Formatter):
    """Another one's lines, each with the priority in front that the journal takes off again (sd-daemon(3))."""

    _PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))  # of syslog(3)

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in self._PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{row}" for row in self._lines.format(record).split("\n"))


class _OneClient(logging.Filter):
    """Of our own lines, those of a level and above, and all of one client."""

    def __init__(self, level: int, client: str) -> None:
        super().__init__()
        self._level = level
        self._client = client

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= self._level or record.__dict__.get("client") == self._client


def _plain(value: Any) -> str:
    """Nothing of a client's text gets out of its quotes; what opens with a bracket is a list of ours."""
    if isinstance(value, str) and value and value.isprintable() and not any(c in value for c in ' "=['):
        return value
    shown = json.dumps(value, ensure_ascii=False)
    return shown if shown.isprintable() else json.dumps(value)


def _is_journal(stream: Any) -> bool:
    """Whether systemd's journal reads it: $JOURNAL_STREAM alone may be inherited (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or no file at all
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _QuietFaults:
    """Mixin for handlers: a log that cannot be written is said once a minute on standard error, in one line."""

    _said_at = -60.0

    def handleError(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._said_at >= 60:
            self._said_at = now
            fault = sys.exc_info()[1]
            said = f"graph-smtp-relay: the log cannot be written: {fault}; free space or change `log`"
            with contextlib.suppress(OSError, ValueError):  # standard error may be gone too; mail does not care
                print(said, file=sys.stderr)


class _StreamHandler(_QuietFaults, logging.StreamHandler[Any]):
    pass


class _FileHandler(_QuietFaults, logging.FileHandler):
    def _open(self) -> io.TextIOWrapper:
        """For appending; a line goes in one write, since several processes may append to one file."""
        return open(self.baseFilename, "a", _LONGEST_LINE, self.encoding, self.errors)


def open_handler(config: LogConfig) -> logging.Handler:
    """A handler by the configuration. Raises OSError when the file cannot be opened."""
    handler: logging.Handler
    if config.path:
        handler = _FileHandler(config.path, encoding="utf-8", errors="backslashreplace")
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # As a file: JSON is UTF-8 (RFC 8259 §8.1), and no locale may cost us a line.
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        handler = _StreamHandler(sys.stdout)
    as_text = config.format == "text" or (config.format == "auto" and not config.path and sys.stdout.isatty())
    in_journal = not config.path and _is_journal(sys.stdout)
    lines = TextLines(with_time=not in_journal) if as_text else JsonLines()
    handler.setFormatter(_JournalLines(lines) if in_journal else lines)
    if config.debug_client:
        handler.addFilter(_OneClient(_LEVELS[config.level], config.debug_client))
    return handler


def set_up(config: LogConfig, worker: int = 0) -> None:
    """Send our own events to the configured place, and warnings of the libraries with them. Raises OSError.

    worker: the number that each line bears, of a process among several.
    """
    handler = open_handler(config)
    if worker:
        handler.addFilter(lambda record: record.__dict__.update(worker=worker) is None)
    root = logging.getLogger()
    replaced = [old for old in root.handlers if isinstance(old, _QuietFaults)]
    root.addHandler(handler)
    for old in replaced:
        root.removeHandler(old)
        with contextlib.suppress(OSError):  # what it could not write it has said itself
            old.close()
    # None of this is in a line of ours; to name the thread of a greenlet, threading makes one up (logging HOWTO).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # the same page: nor do we say where in the source
    # The libraries' debug lines quote URLs and headers; only what they warn about is let through.
    root.setLevel(logging.WARNING)
    for library in ("urllib3", "requests", "asyncio"):
        logging.getLogger(library).setLevel(logging.ERROR)
    # msal logs an answer that is no JSON as a whole, with what may be a token in it; whatever it finds it raises too.
    logging.getLogger("msal").setLevel(logging.CRITICAL)
    logging.getLogger("relay").setLevel(logging.DEBUG if config.debug_client else _LEVELS[config.level])
