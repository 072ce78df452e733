# SPDX-License-Identifier: MIT
"""Secrets of a configuration file, encrypted or decrypted in place: comments, layout and file mode stay.

Knows YAML nodes and the table of keys. The file is replaced at once or not at all.
"""

from __future__ import annotations

import codecs
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from relay.config import Config, Key, keys_of
from relay.configvalue import tells
from relay.configyaml import YamlFault, compose, entries, is_text
from relay.vault import PREFIX, Vault, VaultFault

_BOM = "\ufeff"
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}  # which keep the mark as a character
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")


def encrypt_file(path: Path, vault: Vault) -> int:
    """Turn the secrets into enc: values under the first key; how many. Raises YamlFault, VaultFault, OSError.

    Values that are encrypted already are encrypted anew, which is how the key is changed.
    """

    def encrypted(text: str) -> str:
        if text.startswith("__SYSTEMENCRYPTED__"):
            raise VaultFault("a value was encrypted on Windows and can only be read there; enter it again first")
        return vault.encrypt(vault.decrypt(text) if text.startswith(PREFIX) else text)

    return _change(path, encrypted)


def decrypt_file(path: Path, vault: Vault) -> int:
    """Turn enc: values back into what they stand for; how many. Raises YamlFault, VaultFault, OSError."""

    def plain(text: str) -> str:
        return _quoted(vault.decrypt(text)) if text.startswith(PREFIX) else ""

    return _change(path, plain)


def check_file(path: Path) -> None:
    """Raises YamlFault, OSError where the file is none that could be changed."""
    compose(path.read_bytes())


def _change(path: Path, new_text: Callable[[str], str]) -> int:
    """Replace each secret by what new_text makes of it; empty leaves it alone."""
    octets = path.read_bytes()
    encoding = next((name for mark, name in _UTF16.items() if octets.startswith(mark)), "utf-8")
    try:
        text = octets.decode(encoding)
    except UnicodeDecodeError:
        raise YamlFault(1, "not UTF-8 text; save the file as UTF-8") from None
    offset = len(text) - len(text.removeprefix(_BOM))
    changed = 0
    found = {node.start_mark.index: node for node in _secrets(compose(text))}  # an alias is the node of its anchor
    for node in sorted(found.values(), key=lambda node: node.start_mark.index, reverse=True):
        start, end = node.start_mark.index + offset, node.end_mark.index + offset
        start += _properties_of(text[start:end])
        replacement = new_text(str(node.value))
        if replacement:
            line_end = "\n" if text[start:end].endswith("\n") else ""  # a block scalar takes it along
            text = text[:start] + replacement + line_end + text[end:]
            changed += 1
    if changed:
        _replace(path, text.encode(encoding))
    return changed


def _properties_of(written: str) -> int:
    """How much of a node's text is its anchor and tag: an alias elsewhere may need them (YAML 1.1, §4.2.3)."""
    match = _PROPERTIES.match(written)
    return match.end() if match else 0


def _secrets(root: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """The scalars that hold a secret in clear or encrypted; hashes show nothing and stay."""
    if isinstance(root, yaml.MappingNode):
        keys = {key.path: key for key in keys_of(Config)}
        yield from _secrets_below(root, keys, "")


def _secrets_below(mapping: yaml.MappingNode, keys: dict[str, Key], prefix: str) -> Iterator[yaml.ScalarNode]:
    for name, value in entries(mapping):
        path = f"{prefix}{name.value}"
        if isinstance(value, yaml.MappingNode):
            yield from _secrets_below(value, keys, f"{path}.")
        key = keys.get(path)
        if key is None or key.kind not in ("secret", "secrets") or path.endswith("_hash"):
            continue
        for node in value.value if isinstance(value, yaml.SequenceNode) else (value,):
            if isinstance(node, yaml.ScalarNode) and is_text(node) and tells(path, node.value):
                yield node


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _replace(path: Path, octets: bytes) -> None:
    """Write beside, then rename: whoever reads sees the old file or the new one."""
    target = path.resolve()
    status = target.stat()
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:  # raised on: no half-written file with secrets stays
        os.unlink(name)
        raise
