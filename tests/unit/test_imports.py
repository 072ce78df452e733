# SPDX-License-Identifier: MIT
"""Who imports whom: lower ranks only, never sideways between packages, no cycles, gevent in five files alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RANKS = {
    0: "relay config credentials vault clock logs stats janitor identity clientcert service arguments spool idn"
    " base64text tlslayer malloc loopback signals testmail",
    1: "configfile configchecks configcrypt configyaml configvalue admin accounts loginlimit resends selfsigned smtp"
    " message graph sandbox serviceunit sideprocess",
    2: "outcome health bounds listeners greenlets",
    3: "authentication delivery lifelog workers",
    4: "submission",
    5: "generation",
    6: "intake desk",
    7: "app online sendtest setup migrate",
    8: "members",
    9: "supervisor",
    10: "serve",
    11: "cli",
    12: "bootstrap",
    13: "__main__",
}
RANK_OF = {name: rank for rank, names in RANKS.items() for name in names.split()}
# Files that make up one package although they lie in relay/ itself.
FAMILIES = dict.fromkeys(("configfile", "configchecks", "configyaml", "configvalue", "configcrypt"), "config file")
GEVENT = {"relay.bootstrap", "relay.greenlets", "relay.smtp.server", "relay.admin.server", "relay.sandbox.server"}
# smtp/ is RFC 5321, message/ RFC 5322: the one sideways step that is allowed.
SIDEWAYS = {("graph", "relay.message.model")}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted((ROOT / "relay").rglob("*.py"))}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of each import, wherever it stands, but for those that only the type checker sees."""
    yield from _imports(ast.parse(path.read_text(encoding="utf-8")))


def _imports(node: ast.AST) -> Iterator[tuple[int, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: relative import"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield child.lineno, inner if inner in MODULES else str(child.module)
        else:
            yield from _imports(child)


def part(module: str) -> str:
    """What has a rank: a file of relay/, or a package in it."""
    return module.split(".")[1] if "." in module else module


def family(module: str) -> str:
    return FAMILIES.get(part(module), part(module))


OURS = {
    name: [(line, found) for line, found in imports(path) if part(found) in RANK_OF and found.startswith("relay")]
    for name, path in MODULES.items()
}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_rank(name: str) -> None:
    assert part(name) in RANK_OF, "give it a rank in this test and a line in docs/design.md"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downhill(name: str) -> None:
    for line, found in OURS[name]:
        own, its = RANK_OF[part(name)], RANK_OF[part(found)]
        allowed = its < own or its == own == 0 or family(found) == family(name) or (part(name), found) in SIDEWAYS
        assert allowed, f"{name}:{line} (rank {own}) imports {found} (rank {its})"


def test_no_cycles() -> None:
    TopologicalSorter({name: {found for _, found in ours} for name, ours in OURS.items()}).prepare()


@pytest.mark.parametrize("name", MODULES)
def test_gevent_is_imported_in_five_files_alone(name: str) -> None:
    found = [line for line, module in imports(MODULES[name]) if module.split(".")[0] in ("gevent", "greenlet")]
    assert not found or name in GEVENT, f"{name}:{found}"


def test_the_package_itself_imports_nothing() -> None:
    assert list(imports(MODULES["relay"])) == [] or {m for _, m in imports(MODULES["relay"])} == {"__future__"}


def test_the_sandbox_shares_no_code_with_graph() -> None:
    """Or it would agree with our mistakes."""
    shared = {
        found for name in MODULES if part(name) == "sandbox" for _, found in OURS[name] if part(found) != "sandbox"
    }
    assert shared <= {"relay.clock", "relay.config", "relay.credentials", "relay.identity", "relay.logs", "relay"}


def test_the_rules_bite() -> None:
    assert ("relay.smtp.reply", "relay.graph.errors") in {
        (found, other) for _, found in OURS["relay.outcome"] for _, other in OURS["relay.outcome"]
    }
    assert family("relay.configyaml") == family("relay.configfile") != family("relay.config")
    assert part("relay.smtp.session") == "smtp"
