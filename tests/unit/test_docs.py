# SPDX-License-Identifier: MIT
"""The documentation knows every reply, every log event and every field, and its links and test names lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.arguments import parser_of, seed_flags
from relay.logs import FIELDS
from relay.smtp import reply as replies
from relay.smtp.reply import Reply

ROOT = Path(__file__).parents[2]
DOCS = sorted((*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")))
LOGGING = (ROOT / "docs/logging.md").read_text(encoding="utf-8")
REPLIES = (ROOT / "docs/replies.md").read_text(encoding="utf-8")
RFC = (ROOT / "docs/rfc.md").read_text(encoding="utf-8")
LEVELS = ("debug", "info", "warning", "error", "exception")


def first_cells(text: str) -> str:
    """What stands in the first column of the tables."""
    return "\n".join(row.split("|")[1] for row in text.splitlines() if row.startswith("|"))


CATALOGUE = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_reply_is_explained(name: str) -> None:
    """334 and 354 have no enhanced code (RFC 2034 §4)."""
    assert str(CATALOGUE[name]) in first_cells(REPLIES)


def events() -> Iterator[tuple[str, str]]:
    """Each event of the source with its place: log.info("word", …), and the words that a variable may hold."""
    for path in sorted((ROOT / "relay").rglob("*.py")):
        if "sandbox" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
            ):
                for word in ast.walk(node.args[0]):
                    if isinstance(word, ast.Constant) and isinstance(word.value, str):
                        yield word.value, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_event_is_explained() -> None:
    found = dict(events())
    assert len(found) > 30
    known = set(re.findall(r"[a-z_0-9]+", first_cells(LOGGING) + LOGGING.partition("## One line")[2].partition("|")[0]))
    assert {word: place for word, place in found.items() if word not in known} == {}


def test_every_field_is_explained() -> None:
    words = set(re.findall(r"[a-z_]+", LOGGING))
    assert [field for field in FIELDS if field not in words] == []


def slug(heading: str) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = path.parent / name if name else path
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), target


def test_every_document_is_linked() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in DOCS}
    lonely = [
        path.name
        for path in DOCS
        if path.parent.name == "docs"
        and not any(f"{path.name}" in text for other, text in texts.items() if other != path)
    ]
    assert lonely == []


TESTS_NAMED = re.findall(r"`([\w/]+\.smtp|[\w/]+\.py::\w+)`", RFC)


@pytest.mark.parametrize("name", sorted(set(TESTS_NAMED)))
def test_the_tests_that_docs_rfc_names_exist(name: str) -> None:
    if name.endswith(".smtp"):
        assert (ROOT / "tests/protocol/dialogs" / name).is_file()
    else:
        path, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / "tests" / path).read_text(encoding="utf-8")


def test_each_row_of_docs_rfc_names_a_test_or_a_reason() -> None:
    rows = [row for row in RFC.splitlines() if row.startswith("| §")]
    assert len(rows) >= 80
    assert [row for row in rows if not re.search(r"`[\w/]+(\.smtp|\.py::\w+)`|not (ours|here):", row)] == []


# The site


def test_the_site_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": (\S+\.md)$", text, re.MULTILINE))
    assert listed == {str(path.relative_to(ROOT)) for path in DOCS}


# Commands


def blocks(path: Path) -> Iterator[str]:
    """The text of each block of shell commands, its indentation in a list taken away."""
    for indent, text in re.findall(r"^( *)```sh\n(.*?)^ *```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        yield re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)


OURS = re.compile(r"^(?:sudo )?(?:\S*python3? )?(?:\S*/)?(?:graph-smtp-relay|relay\.py)(?: +(.*))?$")


def our_commands() -> Iterator[tuple[str, str, bool]]:
    """File, arguments, and whether it is to be pasted; in a sentence capital words stand for something."""
    for path in DOCS:
        for text in blocks(path):
            for line in text.replace("\\\n", " ").splitlines():
                if found := OURS.match(line):
                    yield path.name, found[1] or "", True
        for span in re.findall(r"`(graph-smtp-relay [^`]+)`", path.read_text("utf-8")):
            yield path.name, span.partition(" ")[2], False


COMMANDS = sorted(set(our_commands()))


def test_there_are_commands() -> None:
    assert len([one for one in COMMANDS if one[2]]) >= 15


@pytest.mark.parametrize(("name", "arguments", "to_paste"), COMMANDS)
def test_each_command_is_one(name: str, arguments: str, to_paste: bool) -> None:
    words = seed_flags(shlex.split(arguments, comments=True))
    if to_paste:
        assert parser_of().parse_args(words)
        return
    commands = next(action.choices for action in parser_of()._actions if action.dest == "command")
    assert isinstance(commands, dict)
    command, options = words[0], [word for word in words[1:] if word.startswith("--")]
    assert command in commands or command in ("COMMAND", "--config"), name
    for option in options if command in commands else ():
        assert option in commands[command]._option_string_actions, f"{name}: {option}"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_the_shell_can_read_each_block(path: Path) -> None:
    for text in blocks(path):
        filled_in = re.sub(r"<[a-z ]+>", "x", text)
        ended = subprocess.run(["sh", "-n"], input=filled_in, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, ""), text
