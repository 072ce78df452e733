# SPDX-License-Identifier: MIT
"""Writes conf/config.yaml and docs/configuration.md from the table of keys in relay/config.py.

Run it after every change of the table: python3 packaging/make_config_docs.py. A test compares the two files with
what it would write. Keys and choices that are not available yet are left out.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the checkout's relay, not an installed one

from relay.config import CLOUDS, DEFAULT_ADDRESSES, Config, Key, keys_of  # noqa: E402
from relay.credentials import Secret  # noqa: E402

SEED_KEYS = (  # of azureSMTPwithOAuth 1.1.3, in its order
    *("log", "log_level", "listen_addr"),
    *("oauth2_config.client_id", "oauth2_config.client_secret", "oauth2_config.tenant_id", "oauth2_config.scopes"),
    *("fallback_smtp_user", "fallback_smtp_pass", "allow_anonymous", "save_to_sent", "max_message_size"),
    *("max_connections", "connection_timeout", "strict_attachments", "retry_attempts", "retry_initial_delay"),
)
KINDS = {
    "text": "string",
    "secret": "string, secret",
    "secrets": "string, secret, or a list of two",
    "boolean": "true or false",
    "integer": "number",
    "processes": "number or auto",
    "address": "HOST:PORT",
    "addresses": "HOST:PORT, or a list of them",
    "network": "network or address, or a list of them",
    "networks": "list of networks and addresses",
    "texts": "list of strings",
    "url": "URL",
    "path": "file",
    "mailbox": "mail address",
    "date": "YYYY-MM-DD",
    "rate": "NUMBER/min, NUMBER/s or NUMBER/h",
    "table": "table",
    "tables": "list of tables",
}

YAML_HEAD = """\
# Configuration of graph-smtp-relay. Three values are needed: client_id, client_secret and tenant_id. Everything
# else stands here at its default; remove the # in front of a key to change it. A file of azureSMTPwithOAuth 1.1.3
# works as it is. Any string may be given as {env: NAME} or {file: PATH}. Check it with: graph-smtp-relay check
"""

DOCS_HEAD = """\
# Configuration

<!-- Made by packaging/make_config_docs.py from relay/config.py: change the table there, and run it. -->

One YAML file: `--config FILE`, else `$GRAPH_SMTP_RELAY_CONFIG`, else `config.yaml` beside the program, else
`/etc/graph-smtp-relay/config.yaml`. [`conf/minimal.yaml`](../conf/minimal.yaml) holds the three values that are
needed, [`conf/config.yaml`](../conf/config.yaml) every key at its default, and
`conf/examples/` one file for each way of use.

## Rules

- `graph-smtp-relay check` reads the file and says what is wrong with it: one line a fault, with file and line, all
  at once. Nothing starts with a faulty file; an unknown key is a fault too.
- A key that is left out, or has nothing behind its colon, has its default.
- Strings are taken as written: `0012` and `yes` need no quotes where a string is wanted. Put a value in single
  quotes when it starts with one of ``* & ! % @ ` { [ > | #``, or holds a colon or a `#` with a space beside it:
  client secrets and passwords often do.
- Numbers and `true` or `false` stand without quotes.
- Any string may come from elsewhere: `{env: NAME}` is an environment variable, `{file: PATH}` the text of a file,
  without the line end at its end. A value that is encrypted on Windows by azureSMTPwithOAuth
  (`__SYSTEMENCRYPTED__…`) can be read on that machine only: enter it again.
- `graph-smtp-relay encrypt` turns the secrets of the file into `enc:` values ([security.md](security.md)).
- Relative paths of files start at the directory of the configuration file. A log file with a directory in its
  path starts at the current directory, as in azureSMTPwithOAuth.
- Networks are written as `10.0.5.0/24`, `fd00::/8`, or as a single address.
- The words of a choice may be written in any case; `warning` is `warn`.
"""


def all_keys() -> tuple[Key, ...]:
    """In the order of the documentation: the seed's first."""
    keys = {key.path: key for key in keys_of(Config)}
    seed = [keys.pop(path) for path in SEED_KEYS]
    return (*seed, *keys.values())


def as_yaml(value: Any) -> str:
    """A default as it is written in YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Secret) or value is None or value == "":
        return '""'
    if value == DEFAULT_ADDRESSES:
        return str(value[0])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"{{{', '.join(f'{key.path}: {as_yaml(key.default)}' for key in keys_of(type(value)))}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    text = str(value)
    return text if re.fullmatch(r"[A-Za-z0-9](?:[\w./-]|:(?!:))*", text) else f'"{text}"'


def facts_of(key: Key) -> list[str]:
    """Required, choices, range and unit, each as a few words."""
    with_flows = f" with flow {' and '.join(key.flows)}" if key.flows else ""
    facts = [f"required{with_flows}"] if key.required else []
    if key.choices:
        facts.append(f"one of {', '.join(key.choices)}")
    if key.lowest is not None:
        facts.append(f"{key.lowest} to {key.highest} {key.unit}".rstrip())
    if key.zero_is_default:
        facts.append("0 means the default")
    return facts


def config_yaml() -> str:
    """conf/config.yaml. The required keys stand open, empty, and so does the line of their table."""
    lines = [f"{YAML_HEAD}\n"]
    group = ""
    keys = all_keys()
    tables = list(dict.fromkeys(key.path.rpartition(".")[0] for key in keys if "." in key.path))
    tables.append("")  # tables first, the required keys at the top
    for key in sorted(keys, key=lambda key: tables.index(key.path.rpartition(".")[0])):
        table, _, name = key.path.rpartition(".")
        if table != group and table:
            lines.append(f"{table}:\n")
        group = table
        indent = "  " if table else ""
        facts = "; ".join(facts_of(key))
        default = '""' if key.kind == "secrets" else as_yaml(key.default)  # one is the rule
        lines.append(f"{indent}# {key.doc}" + (f" ({facts})" if facts else "") + "\n")
        lines.append(f"{indent}{'' if key.required else '#'}{name}: {default}\n\n")
    return "".join(lines).rstrip("\n") + "\n"


def configuration_md() -> str:
    """docs/configuration.md."""
    keys = all_keys()
    seed = [key for key in keys if key.path in SEED_KEYS]
    new = [key for key in keys if key.path not in SEED_KEYS]
    clouds = "".join(f"| `{name}` | `{entra}` | `{graph}` |\n" for name, (entra, graph) in CLOUDS.items())
    return (
        f"{DOCS_HEAD}\n## Keys of azureSMTPwithOAuth\n\nThey mean what they meant there.\n\n"
        f"{''.join(map(section, seed))}## New keys\n\nAll of them are optional.\n\n{''.join(map(section, new))}"
        "## Clouds\n\nWhat `cloud` sets `oauth2_config.authority` and `graph_url` to:\n\n"
        f"| cloud | authority | graph_url |\n| --- | --- | --- |\n{clouds}"
    )


def section(key: Key) -> str:
    """What the reference says of one key."""
    kind = "" if key.choices else KINDS[key.kind]
    default = "" if key.required else f"default `{as_yaml(key.default)}`"
    line = "; ".join(part for part in (kind, *facts_of(key), default) if part)
    return f"### `{key.path}`\n\n{key.doc}\n\n*{line[0].upper()}{line[1:]}.*\n\n{rows_of(key)}"


def rows_of(key: Key) -> str:
    """The keys of a table's entries, as a table."""
    if key.of is object:
        return ""
    rows = ""
    for inner in keys_of(key.of):
        default = "" if inner.required else f"default `{as_yaml(inner.default)}`"
        facts = "; ".join(part for part in (KINDS[inner.kind], *facts_of(inner), default) if part)
        rows += f"| `{inner.path}` | {inner.doc} | {facts} |\n"
    return f"| key | meaning | |\n| --- | --- | --- |\n{rows}\n"


def outputs() -> dict[Path, str]:
    """What to write where."""
    return {ROOT / "conf" / "config.yaml": config_yaml(), ROOT / "docs" / "configuration.md": configuration_md()}


def main() -> None:
    for path, text in outputs().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
