# SPDX-License-Identifier: MIT
"""The log's two forms: each parses back, nothing a client sends can forge a line, and every field is on the list."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import logs
from relay.config import LogConfig
from relay.logs import FIELDS, JsonLines, TextLines

SOURCES = sorted((Path(__file__).parents[2] / "relay").rglob("*.py"))
FORMATTERS = (TextLines(), JsonLines(json_ensure_ascii=False))
CONTRACT_FIELDS = """
    message_id session client user mailbox sender recipients size_bytes form attempts duration_ms
    graph_request_id reply reason
"""


def record(event: str = "delivered", level: int = logging.INFO, **facts: Any) -> logging.LogRecord:
    made = logging.getLogger("relay.test").makeRecord("relay.test", level, "", 0, event, (), None, extra=facts)
    made.created = 1772366400.123
    return made


def parse_text(line: str) -> tuple[str, str, str, dict[str, Any]]:
    """Time, level, event, facts, as a program would read a text line."""
    time, level, rest = line.split(" ", 2)
    event, rest = take_value(rest)
    facts: dict[str, Any] = {}
    while rest:
        match = re.match(r" ([a-z_]+)=", rest)
        assert match, f"no field at {rest!r}"
        assert match[1] not in facts
        facts[match[1]], rest = take_value(rest[match.end() :])
    return time, level, event, facts


def take_value(text: str) -> tuple[Any, str]:
    if text[:1] in ('"', "["):
        value, end = json.JSONDecoder().raw_decode(text)
        return value, text[end:]
    word = re.match(r"[^ ]*", text)
    assert word
    return word[0], text[word.end() :]


def as_text(value: Any) -> Any:
    """A text line does not tell a number from a string."""
    return value if isinstance(value, str | list) else json.dumps(value)


values = st.text(max_size=20) | st.integers() | st.booleans() | st.lists(st.text(max_size=8), max_size=3)
facts = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)


@given(facts)
def test_text_parses_back(given_facts: dict[str, Any]) -> None:
    line = TextLines().format(record(**given_facts))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    time, level, event, found = parse_text(line)
    assert (time, level, event) == ("2026-03-01T12:00:00.123Z", "INFO", "delivered")
    assert found == {name: as_text(value) for name, value in given_facts.items()}


@given(facts)
def test_json_parses_back(given_facts: dict[str, Any]) -> None:
    line = FORMATTERS[1].format(record("auth_failed", **given_facts))
    assert "\n" not in line
    found = json.loads(line.encode("utf-8", "backslashreplace"))
    head = {"timestamp": "2026-03-01T12:00:00.123Z", "level": "info", "event": "auth_failed"}
    assert found == head | given_facts
    assert list(found)[:3] == list(head)


@pytest.mark.parametrize("event", ["delivered", "deferred", "rejected"])
def test_a_messages_line_has_all_its_fields_in_json(event: str) -> None:
    """Contract §8."""
    names = ["timestamp", "level", "event", *CONTRACT_FIELDS.split()]
    found = json.loads(FORMATTERS[1].format(record(event, recipients=2, reason=None, status=403)))
    assert list(found) == [*names, "status"]
    assert (found["recipients"], found["reason"], found["graph_request_id"]) == (2, "", "")
    assert "graph_request_id" not in TextLines().format(record(event, recipients=2))


ODD = {  # each kind of value that a line has borne; the order given is not that of a line of text
    "not_carried": ["X-A", "ü€\n", "\udcff"],
    "reply": "250 2.0.0",
    "duration_ms": 1234.5,
    "waited_ms": 0.0,
    "token_ms": 1e-07,
    "graph_ms": 1e22,
    "message_id": "9F3A",
    "session": "",
    "client": "2001:db8::1",
    "user": "ü€😀\u2028\x85\x7f",
    "mailbox": 'tab\tnul\0esc\x1bquote"back\\slash/\r\n\b\f',
    "sender": "\udcff\ud83d",
    "recipients": 0,
    "size_bytes": 2**70,
    "form": None,
    "attempts": -1,
    "possible_duplicate": True,
    "found_in_sent_items": False,
    "path": Path("/var/log/x y"),
    "signal": logging.INFO,
    "sessions": {"a": [1, None, {"b": "\n"}]},
    "parameters": [],
    "tls": ("TLSv1.3", 2.5),
}
ODD_JSON = (
    '{"timestamp": "2026-03-01T12:00:00.123Z", "level": "info", "event": "delivered", '
    '"message_id": "9F3A", "session": "", "client": "2001:db8::1", "user": "ü€😀\u2028\x85\x7f", '
    r'"mailbox": "tab\tnul\u0000esc\u001bquote\"back\\slash/\r\n\b\f", '
    '"sender": "\udcff\ud83d", "recipients": 0, "size_bytes": 1180591620717411303424, "form": "", '
    '"attempts": -1, "duration_ms": 1234.5, "graph_request_id": "", "reply": "250 2.0.0", "reason": "", '
    '"not_carried": ["X-A", "ü€\\n", "\udcff"], '
    '"waited_ms": 0.0, "token_ms": 1e-07, "graph_ms": 1e+22, "possible_duplicate": true, "found_in_sent_items": false, '
    '"path": "/var/log/x y", "signal": 20, '
    '"sessions": {"a": [1, null, {"b": "\\n"}]}, "parameters": [], "tls": ["TLSv1.3", 2.5]}'
)
ODD_TEXT = (
    '2026-03-01T12:00:00.123Z INFO delivered message_id=9F3A session="" client=2001:db8::1 '
    r'user="\u00fc\u20ac\ud83d\ude00\u2028\u0085\u007f" '
    r'mailbox="tab\tnul\u0000esc\u001bquote\"back\\slash/\r\n\b\f" sender="\udcff\ud83d" recipients=0 '
    "size_bytes=1180591620717411303424 attempts=-1 duration_ms=1234.5 waited_ms=0.0 token_ms=1e-07 graph_ms=1e+22 "
    'reply="250 2.0.0" possible_duplicate=true found_in_sent_items=false '
    r'not_carried=["X-A", "\u00fc\u20ac\n", "\udcff"] parameters=[] signal=20 '
    r'sessions={"a": [1, null, {"b": "\n"}]} tls=["TLSv1.3", 2.5]'
)


def test_each_octet_of_a_line_with_odd_values() -> None:
    """What reads logs may be picky: blanks, escapes and order stay as they are."""
    assert JsonLines().format(record(**ODD)) == ODD_JSON
    assert TextLines().format(record(**{**ODD, "path": None})) == ODD_TEXT


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        (1772366400.0, "12:00:00.000Z"),
        (1772366400.0009995, "12:00:00.000Z"),
        (1772366400.0009997, "12:00:00.001Z"),  # rounded to microseconds, then cut
        (1772366400.9999998, "12:00:01.000Z"),
        (1772366401.5, "12:00:01.500Z"),
        (1772366400.25, "12:00:00.250Z"),  # a clock may be set back
    ],
)
def test_the_time_of_a_line(created: float, shown: str) -> None:
    made = record()
    made.created = created
    assert TextLines().format(made).split(" ")[0] == f"2026-03-01T{shown}"
    assert json.loads(JsonLines().format(made))["timestamp"] == f"2026-03-01T{shown}"


FORGED = "2026-03-01T12:00:00.000Z INFO delivered user=root"
HOSTILE = [
    f"x\n{FORGED}",
    f"[\n{FORGED}",
    f"[x]\r{FORGED}",
    f"\u2028{FORGED}",
    f"\x85{FORGED}",
    "a user=root",
    "user=root",
    'a"b',
    "\x1b[2J",
    "\0",
    "[x",
    '["x"] y',
    "",
    "\udcff",
    "\u202egnp",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("formatter", FORMATTERS, ids=["text", "json"])
def test_no_value_forges_a_line_or_a_field(formatter: logging.Formatter, value: str) -> None:
    line = formatter.format(record(user=value, reason=value, parameters=[value]))
    assert len(line.splitlines()) == 1 or isinstance(formatter, JsonLines)
    assert "\n" not in line
    assert "\r" not in line
    found = parse_text(line)[3] if isinstance(formatter, TextLines) else json.loads(line)
    assert (found["user"], found["reason"], found["parameters"]) == (value, value, [value])
    assert not found.get("client")


@pytest.mark.parametrize("formatter", FORMATTERS, ids=["text", "json"])
def test_neither_does_a_librarys_message_nor_an_exception(formatter: logging.Formatter) -> None:
    try:
        raise ValueError(f"bad value\n{FORGED}\x1b")
    except ValueError:
        made = record(f"odd\n{FORGED}", logging.ERROR)
        made.exc_info = sys.exc_info()
    rows = formatter.format(made).splitlines()
    assert not [row for row in rows if row.startswith("2026-03-01T12:00:00.000Z")]
    assert [row for row in rows if "ValueError" in row]
    assert not [row for row in rows if "\x1b" in row]


def test_a_text_line_reads_well() -> None:
    line = TextLines().format(record(user="scanner", sender="ä@example.com", recipients=2, reason="too large"))
    assert line.endswith(' INFO delivered user=scanner sender=ä@example.com recipients=2 reason="too large"')


def test_fields_without_a_value_are_left_out() -> None:
    assert TextLines().format(record(user=None, reason="")).endswith('delivered reason=""')
    assert "user" not in json.loads(FORMATTERS[1].format(record("auth_failed", user=None)))


def test_fields_that_are_not_on_the_list_are_not_shown() -> None:
    for formatter in FORMATTERS:
        assert "S3CRET" not in formatter.format(record(password="S3CRET"))


def test_the_fields_of_the_contract_are_on_the_list() -> None:
    assert set(CONTRACT_FIELDS.split()) <= set(FIELDS)
    assert len(set(FIELDS)) == len(FIELDS)
    assert not set(FIELDS) & set(logging.makeLogRecord({}).__dict__), "logging itself owns these names"
    assert not set(FIELDS) & {"timestamp", "level", "event", "traceback", "message", "asctime"}


# Every extra={…} of the program


def logged_keys(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each fact that can get into an extra=, through dict displays, ** and what builds it.

    A call `_facts(client, name=…)` or `said(client, event, name=…)` counts with its keywords.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            named = getattr(node.func, "attr", getattr(node.func, "id", ""))
            for keyword in node.keywords:
                if keyword.arg == "extra":
                    yield from dict_keys(keyword.value)
                elif keyword.arg and named in ("_facts", "said"):
                    yield node.lineno, keyword.arg
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if "facts" in ast.unparse(target) and node.value is not None:
                yield from dict_keys(node.value)
                if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                    yield node.lineno, str(target.slice.value)
        elif isinstance(node, ast.FunctionDef) and node.name in ("_facts", "_too_large"):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield from dict_keys(inner.value)


def dict_keys(node: ast.expr) -> Iterator[tuple[int, str]]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Dict):
            for key in inner.keys:
                if key is not None:
                    assert isinstance(key, ast.Constant), f"line {inner.lineno}: a field without a fixed name"
                    yield key.lineno, str(key.value)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_field_logged_is_on_the_list(path: Path) -> None:
    keys = list(logged_keys(ast.parse(path.read_text(encoding="utf-8"))))
    unknown = [f"{path.name}:{line}: {key}" for line, key in keys if key not in FIELDS]
    assert not unknown


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_event_is_a_fixed_word(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if ast.unparse(node.func.value) != "log" or node.func.attr in ("isEnabledFor", "setLevel"):
            continue
        event = node.args[1 if node.func.attr == "log" else 0]
        words = [inner.value for inner in ast.walk(event) if isinstance(inner, ast.Constant)]
        if isinstance(event, ast.Name):
            continue  # handed down from a caller who is looked at too
        assert words, ast.unparse(node)
        assert all(re.fullmatch(r"[a-z][a-z0-9_]+", str(word)) for word in words if isinstance(word, str)), words


def test_the_scan_finds_what_it_should() -> None:
    found = {key for path in SOURCES for _, key in logged_keys(ast.parse(path.read_text(encoding="utf-8")))}
    assert {"session", "message_id", "reply", "graph_code", "delay_s", "parameters", "duration_ms"} <= found
    assert [key for _, key in logged_keys(ast.parse('log.info("x", extra={"secret": 1, **facts})'))] == ["secret"]


# Where it goes


class Output:
    """Standard output in some encoding. pytest puts its own in place after the fixtures, so a test calls take()."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._octets = io.BytesIO()

    def take(self, encoding: str = "utf-8") -> None:
        self._monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(self._octets, encoding=encoding))

    @property
    def lines(self) -> list[bytes]:
        return self._octets.getvalue().split(b"\n")[:-1]


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    return Output(monkeypatch)


def log_one(config: LogConfig, log: Callable[[logging.Logger], None]) -> None:
    logs.set_up(config)
    log(logging.getLogger("relay.test"))


@pytest.mark.parametrize(("form", "first"), [("json", b"{"), ("auto", b"{"), ("text", b"2")])
def test_standard_output(output: Output, form: str, first: bytes) -> None:
    """auto is JSON where nobody looks."""
    output.take()
    log_one(LogConfig(format=form), lambda log: log.info("started", extra={"version": "1"}))
    (line,) = output.lines
    assert line.startswith(first)


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("value", ["\udcff", "ü€", "\x85"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_cannot_be_encoded_is_not_lost(
    output: Output, tmp_path: Path, form: str, value: str, encoding: str
) -> None:
    path = tmp_path / "relay.log"
    output.take(encoding)
    for config in (LogConfig(format=form), LogConfig(format=form, path=str(path))):
        log_one(config, lambda log: log.info("x", extra={"command": f"EHLO {value}"}))
    for line in (*output.lines, path.read_bytes()):
        if form == "json":
            assert json.loads(line)["command"] == f"EHLO {value}"
    assert len(output.lines) == 1


@pytest.mark.parametrize(("level", "seen"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_levels(output: Output, level: str, seen: int) -> None:
    output.take()
    logs.set_up(LogConfig(level=level))
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("relay.test").log(number, "x")
    assert len(output.lines) == seen


def test_one_client_is_shown_in_full(output: Output) -> None:
    output.take()
    logs.set_up(LogConfig(level="warn", debug_client="192.0.2.1"))
    for client in ("192.0.2.1", "192.0.2.11", None):
        for level in (logging.DEBUG, logging.WARNING):
            logging.getLogger("relay.test").log(level, "x", extra={"client": client})
    seen = [(line["level"], line.get("client")) for line in map(json.loads, output.lines)]
    assert seen == [
        ("debug", "192.0.2.1"),
        ("warning", "192.0.2.1"),
        ("warning", "192.0.2.11"),
        ("warning", None),
    ]


def test_each_line_of_a_traceback_has_its_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    with path.open("w", encoding="utf-8") as stream:
        status = path.stat()
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        monkeypatch.setattr(sys, "stdout", stream)
        logs.set_up(LogConfig(format="text"))
        try:
            raise ValueError
        except ValueError:
            logging.getLogger("relay.test").exception("session_fault")
    rows = path.read_text("utf-8").splitlines()
    assert rows[0] == "<3>ERROR session_fault"
    assert len(rows) > 2
    assert {row[:3] for row in rows} == {"<3>"}


def test_libraries_are_quiet_at_debug(output: Output) -> None:
    """Their debug lines hold URLs, headers and forms."""
    output.take()
    logs.set_up(LogConfig(level="debug"))
    for name in ("urllib3.connectionpool", "requests", "msal.oauth2cli", "msal.application", "asyncio", "other"):
        logging.getLogger(name).info("POST S3CRET")
    logging.getLogger("msal.oauth2cli").warning("answer S3CRET")
    assert output.lines == []


def test_a_second_set_up_takes_the_place_of_the_first(output: Output, tmp_path: Path) -> None:
    output.take()
    logs.set_up(LogConfig())
    path = tmp_path / "relay.log"
    log_one(LogConfig(path=str(path)), lambda log: log.info("once"))
    assert output.lines == []
    assert path.read_text(encoding="utf-8").count("once") == 1


def test_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"relay\.log"):
        logs.set_up(LogConfig(path=str(tmp_path / "none" / "relay.log")))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the file object's own last try
def test_a_full_disk_is_said_once_and_can_be_left(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(LogConfig(path="/dev/full"))
    for _ in range(3):
        logging.getLogger("relay.test").info("x", extra={"user": "scanner"})
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "the log cannot be written" in said[0]
    output.take()
    log_one(LogConfig(), lambda log: log.info("back"))
    assert len(output.lines) == 1


def test_a_traceback_is_in_the_same_json_object(output: Output) -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise RuntimeError("bug")
        except RuntimeError:
            log.exception("session_fault")

    output.take()
    log_one(LogConfig(format="json"), fail)
    (line,) = output.lines
    shown = json.loads(line)["traceback"]
    assert shown.startswith("Traceback: RuntimeError\n")
    assert "bug" not in shown.replace('RuntimeError("bug")', ""), "the text may quote a message"
