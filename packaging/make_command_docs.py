# SPDX-License-Identifier: MIT
"""Writes packaging/man/ and packaging/completion/ from the command line (relay/arguments.py) and the table of keys.

Run it after every change of one of them: python3 packaging/make_command_docs.py. A test compares. Nothing of argparse's
own layout is used, which differs between versions of Python.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "packaging")]  # the checkout's relay, not an installed one

from make_config_docs import KINDS, all_keys, as_yaml, facts_of  # noqa: E402

from relay import __version__  # noqa: E402
from relay.arguments import parser_of  # noqa: E402
from relay.config import CLOUDS, Key, keys_of  # noqa: E402

NAME = "graph-smtp-relay"
DATE = "2026-11-26"  # of the pages' last change

_HEAD = '.\\" Made by packaging/make_command_docs.py: change relay/arguments.py or relay/config.py, and run it.\n'

ENVIRONMENT = (
    ("GRAPH_SMTP_RELAY_CONFIG", "The configuration file, where --config is not given."),
    ("GRAPH_SMTP_RELAY_KEY_FILE", "The key of encrypted values, where --key-file is not given."),
    ("CREDENTIALS_DIRECTORY", "Set by systemd's LoadCredential=; its file key is the key of encrypted values."),
    ("https_proxy, no_proxy", "The proxy for Microsoft 365, where the configuration names none."),
)
SIGNALS = (
    ("SIGTERM, SIGINT", "Stop accepting, let messages in flight finish for shutdown_timeout seconds at the most, end."),
    ("SIGHUP", "Read the configuration and the certificates again, and open the log file anew."),
)
STATUS = (("0", "Fine."), ("2", "Wrong usage, or a faulty configuration."), ("1", "Anything else."))
FILES = (
    ("/etc/graph-smtp-relay/config.yaml", "The configuration, where nothing else is named."),
    ("/etc/graph-smtp-relay/secret.key", "The key of encrypted values, where nothing else is named."),
    ("/var/log/graph-smtp-relay/", "The one directory that the packaged service can write to."),
)
EXAMPLES = (
    ("Try it without an account", f"{NAME} sandbox"),
    ("Write a configuration, and see whether it works", f"{NAME} init --config /etc/{NAME}/config.yaml"),
    ("Send a mail through the running relay", f"{NAME} send-test --to you@example.com"),
    ("Look at one device's dialogue", f"{NAME} run --debug-session 10.0.5.17"),
)
VALUES = (
    "A key that is left out, or has nothing behind its colon, has its default. An unknown key is a fault.",
    "Strings are taken as written. Put a value in single quotes when it starts with a special character, or holds a "
    "colon or a # with a space beside it.",
    "Any string may be given as {env: NAME}, an environment variable, or {file: PATH}, the text of a file. Values made "
    f"by {NAME} encrypt start with enc:.",
    "Relative paths start at the directory of the configuration file. Networks are written as 10.0.5.0/24, fd00::/8 or "
    "as a single address.",
)


# Commands, as the parser knows them


def commands() -> dict[str, argparse.ArgumentParser]:
    """Each command's parser, by its name."""
    found = next(action for action in parser_of()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Its own options and operands, without those that every command has."""
    common = {"config", "key_file", "help"}
    return [
        action
        for action in parser._actions
        if action.dest not in common and not isinstance(action, argparse._SubParsersAction)
    ]


def value_of(action: argparse.Action) -> str:
    """FILE, or the words to choose from; empty where an option takes no value."""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return "" if action.nargs == 0 else str(action.metavar)


# man(7)


def roff(text: str) -> str:
    """Text as roff takes it literally: no line of it is a request, and a hyphen can be searched for and pasted."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace('"', "\\(dq")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti").replace("`", "\\(ga")
    return f"\\&{text}" if text.startswith(".") else text


def bold(text: str) -> str:
    return f"\\fB{roff(text)}\\fR"


def entry(term: str, text: str) -> str:
    return f".TP\n{term}\n{roff(text)}\n"


def entries(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(entry(bold(term), text) for term, text in rows)


def section(title: str, body: str) -> str:
    return f".SH {title}\n{body}"


def title(page: str, number: int, about: str) -> str:
    return (
        f'{_HEAD}.TH {page.upper()} {number} {DATE} "{NAME} {__version__}" "{NAME}"\n'
        f".SH NAME\n{page} \\- {roff(about)}\n"
    )


def term_of(action: argparse.Action) -> str:
    """An option with its value, as it stands before its help."""
    value = value_of(action)
    shown = bold(value) if action.choices is not None else f"\\fI{roff(value)}\\fR"
    if not action.option_strings:
        return shown
    return ", ".join(map(bold, action.option_strings)) + (f" {shown}" if value else "")


def usage_of(name: str, parser: argparse.ArgumentParser) -> str:
    """One line: the command and what it takes, what may be left out in brackets."""
    words = [
        term_of(action) if action.required or not action.option_strings else f"[{term_of(action)}]"
        for action in options_of(parser)
    ]
    return " ".join((bold(name), *words))


def sentence(text: str) -> str:
    text = f"{text[0].upper()}{text[1:]}"
    return text if text.endswith(".") else f"{text}."


def command_page() -> str:
    """graph-smtp-relay(1)."""
    parser = parser_of()
    described = ""
    for name, command in commands().items():
        described += f".SS {usage_of(name, command)}\n{roff(command.description or '')}\n"
        described += "".join(entry(term_of(action), sentence(str(action.help))) for action in options_of(command))
    common = [action for action in parser._actions if action.dest in ("config", "key_file", "help")]
    seed = "As in azureSMTPwithOAuth, -service ACTION and -encrypt do the same as the commands of these names."
    return (
        title(NAME, 1, "SMTP relay that delivers through Microsoft 365")
        + section("SYNOPSIS", f"{bold(NAME)} [{bold('--config')} \\fIFILE\\fR] [\\fICOMMAND\\fR] [\\fIoptions\\fR]\n")
        + section(
            "DESCRIPTION",
            f"{roff(str(parser.description))}\nA message is answered with 250 only when Microsoft has taken it; "
            f"nothing is queued here.\n.PP\n{roff(str(parser.epilog).partition(' graph-smtp-relay COMMAND')[0])}\n",
        )
        + section("COMMANDS", described + f".PP\n{roff(seed)}\n")
        + section(
            "OPTIONS OF EVERY COMMAND",
            "They may stand before and after the command; what stands behind wins.\n"
            + "".join(entry(term_of(action), sentence(str(action.help))) for action in common),
        )
        + section("ENVIRONMENT", entries(ENVIRONMENT))
        + section("SIGNALS", entries(SIGNALS))
        + section("EXIT STATUS", entries(STATUS))
        + section("FILES", entries(FILES))
        + section("EXAMPLES", "".join(f".TP\n{roff(what)}:\n{bold(how)}\n" for what, how in EXAMPLES))
        + section("SEE ALSO", f".BR {NAME}.yaml (5),\n.BR systemd.unit (5)\n")
    )


def key_entry(key: Key) -> str:
    kind = "" if key.choices else KINDS[key.kind]
    default = "" if key.required else f"default {as_yaml(key.default)}"
    facts = "; ".join(part for part in (kind, *facts_of(key), default) if part)
    return f".TP\n{bold(key.path)}\n{roff(key.doc)}\n.br\n\\fI{roff(sentence(facts))}\\fR\n"


def key_entries(key: Key) -> str:
    """A key, and indented below it those of a table's entries."""
    inner = "" if key.of is object else "".join(map(key_entry, keys_of(key.of)))
    return key_entry(key) + (f".RS\n{inner}.RE\n" if inner else "")


def config_page() -> str:
    """graph-smtp-relay.yaml(5)."""
    clouds = entries((name, f"{entra}, {graph}") for name, (entra, graph) in CLOUDS.items())
    example = (
        ".PP\n.EX\n"
        "oauth2_config:\n  tenant_id: contoso.onmicrosoft.com\n"
        "  client_id: 00000000\\-0000\\-0000\\-0000\\-000000000000\n"
        "  client_secret: {file: /etc/graph\\-smtp\\-relay/secret}\n.EE\n"
    )
    return (
        title(f"{NAME}.yaml", 5, f"configuration of {NAME}")
        + section(
            "DESCRIPTION",
            f"The configuration of\n.BR {NAME} (1)\nis one YAML file. Three values are needed:\n{example}"
            + "".join(f".PP\n{roff(text)}\n" for text in VALUES),
        )
        + section("KEYS", "".join(map(key_entries, all_keys())))
        + section("CLOUDS", f"What\n.B cloud\nsets authority and graph_url to:\n{clouds}")
        + section("SEE ALSO", f".BR {NAME} (1)\n")
    )


# bash

COMPLETION = """\
# bash completion for graph-smtp-relay
# Made by packaging/make_command_docs.py: change relay/arguments.py, and run it.

_graph_smtp_relay() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} command="" at
    COMPREPLY=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${{COMP_WORDS[at]}} in
            --config | --key-file) ((at++)) ;;
            -*) ;;
            *)
                command=${{COMP_WORDS[at]}}
                break
                ;;
        esac
    done
    case $command:$prev in
{values}
    esac
    case $command in
{words}
    esac
}}
complete -F _graph_smtp_relay graph-smtp-relay
"""


def completion() -> str:
    """packaging/completion/graph-smtp-relay."""
    common = ("--config", "--key-file", "--help")
    values: dict[str, list[str]] = {_FILES: ["*:--config", "*:--key-file"]}
    words = []
    for name, parser in commands().items():
        options: list[str] = []
        files = ""
        for action in options_of(parser):
            if action.option_strings:
                options += action.option_strings
            elif action.choices is not None:
                options += map(str, action.choices)
            else:
                files = "-f "
            if action.option_strings and action.nargs != 0:
                values.setdefault(candidates(action), []).append(f"{name}:{action.option_strings[0]}")
        words.append(f"{name}) {_from(f'{files}-W {_quoted((*options, *common))}')} ;;")
    first = _quoted((*commands(), *common, "--version"))
    words.append(f'"") {_from(f"-W {first}")} ;;')
    return COMPLETION.format(
        values="\n".join(f"        {' | '.join(patterns)}) {action}; return ;;" for action, patterns in values.items()),
        words="\n".join(f"        {row}" for row in words),
    )


def _quoted(words: Iterable[str]) -> str:
    return f'"{" ".join(words)}"'


def _from(source: str) -> str:
    """By mapfile: a file's name may hold blanks."""
    return f'mapfile -t COMPREPLY < <(compgen {source} -- "$cur")'


_FILES = f"compopt -o filenames; {_from('-f')}"
_DIRECTORIES = f"compopt -o filenames; {_from('-d')}"


def candidates(action: argparse.Action) -> str:
    """What completes an option's value; nothing where only the administrator knows it."""
    if action.choices is not None:
        return _from(f"-W {_quoted(map(str, action.choices))}")
    return {"FILE": _FILES, "DIR": _DIRECTORIES, "NAME": _from("-A hostname")}.get(str(action.metavar), ":")


def outputs() -> dict[Path, str]:
    """What to write where."""
    packaging = ROOT / "packaging"
    return {
        packaging / "man" / f"{NAME}.1": command_page(),
        packaging / "man" / f"{NAME}.yaml.5": config_page(),
        packaging / "completion" / NAME: completion(),
    }


def main() -> None:
    for path, text in outputs().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
