# SPDX-License-Identifier: MIT
"""init: asks for the three values and writes a configuration that only its owner can read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import yaml

from relay import configvalue
from relay.configvalue import BadValue

_HEAD = """\
# Configuration of graph-smtp-relay, made by its command init. docs/configuration.md lists every key.
# It holds a secret: keep it readable for the service alone.
"""
# key, question, whether it is typed in the dark, and what a value must look like
QUESTIONS: tuple[tuple[str, str, bool, Callable[[str], str]], ...] = (
    ("tenant_id", "Directory (tenant) ID", False, configvalue.tenant_id),
    ("client_id", "Application (client) ID", False, configvalue.client_id),
    ("client_secret", "Client secret, its value and not its ID", True, configvalue.usable),
)


class SetupFailed(Exception):
    """Why no configuration was written. The text is for the terminal."""


def collect(given: dict[str, str], ask: Callable[[str], str], ask_secretly: Callable[[str], str]) -> dict[str, str]:
    """The three values: those given, and for the rest an answer. Raises SetupFailed."""
    values = {}
    for key, question, in_the_dark, check in QUESTIONS:
        value = given.get(key) or (ask_secretly if in_the_dark else ask)(f"{question}: ")
        try:
            if not value.strip():
                raise BadValue("must not be empty")
            values[key] = check(value.strip())
        except BadValue as fault:
            raise SetupFailed(f"{key}: {fault}") from None
    return values


def write(path: Path, values: dict[str, str]) -> None:
    """A new configuration file of these values. Raises SetupFailed."""
    quoted = {
        key: yaml.safe_dump(value, default_style="'", allow_unicode=True, width=4096) for key, value in values.items()
    }
    write_new(path, _HEAD + "oauth2_config:\n" + "".join(f"  {key}: {value}" for key, value in quoted.items()))


def write_new(path: Path, text: str, option: str = "--config") -> None:
    """A new file with mode 0600, from the first octet on. Raises SetupFailed, also where there is one already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise SetupFailed(f"{path}: is there already; remove it, or name another file with {option}") from None
    except FileNotFoundError:
        raise SetupFailed(
            f"{path}: the directory {path.parent} is not there; make it, or name another file with {option}"
        ) from None
    except OSError as fault:
        raise SetupFailed(f"{path}: cannot be written: {fault.strerror}") from None
