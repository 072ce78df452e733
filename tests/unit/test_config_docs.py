# SPDX-License-Identifier: MIT
"""conf/ and docs/configuration.md say what the table of keys says, and what is shipped can be used."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from relay.config import Config, keys_of
from relay.configfile import ConfigError, load, parse

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = (ROOT / "conf" / "minimal.yaml", *sorted((ROOT / "conf" / "examples").glob("*.yaml")))


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_config_docs", ROOT / "packaging" / "make_config_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled_in(text: str) -> str:
    for name in ("client_id", "client_secret", "tenant_id"):
        text = text.replace(f'\n  {name}: ""\n', f"\n  {name}: x\n")
    return text


def read(text: str) -> Config:
    return parse(text, name="config.yaml", directory=ROOT / "conf", environ={})


def test_generated_files_are_up_to_date(maker: ModuleType) -> None:
    for path, text in maker.outputs().items():
        assert path.read_text("utf-8") == text, f"run packaging/make_config_docs.py to renew {path.name}"


def test_every_key_is_in_both_files(maker: ModuleType) -> None:
    yaml = (ROOT / "conf" / "config.yaml").read_text("utf-8")
    docs = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    for key in keys_of(Config):
        assert f"### `{key.path}`\n" in docs, key.path
        assert re.search(rf"^ *#?{key.path.rpartition('.')[2]}: ", yaml, re.MULTILINE), key.path
        assert key.doc.endswith("."), key.path
    assert set(maker.SEED_KEYS) <= {key.path for key in keys_of(Config)}


def test_config_yaml_needs_the_three_values() -> None:
    with pytest.raises(ConfigError) as caught:
        load(ROOT / "conf" / "config.yaml", environ={})
    names = [fault.split(": ")[1].removeprefix("oauth2_config.") for fault in caught.value.faults]
    assert names == ["client_id", "client_secret", "tenant_id"]


def test_config_yaml_loads_when_filled_in_and_shows_the_defaults() -> None:
    text = filled_in((ROOT / "conf" / "config.yaml").read_text("utf-8"))
    everything = re.sub(r"^( *)#(?=\w+: )", r"\1", text, flags=re.MULTILINE)
    assert everything.count("\n#") < text.count("\n#")
    assert read(text) == read(everything)
    assert read(text).warnings == ()
    assert read(text).limits == Config().limits


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_file_loads(path: Path) -> None:
    """With the mode that the administrator gives it: as shipped, everybody may read it."""
    assert read(path.read_text("utf-8")).warnings == ()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_a_shipped_file_comments_out_is_known(path: Path) -> None:
    known = {key.path.rpartition(".")[2] for key in keys_of(Config)}
    assert set(re.findall(r"^ *#(\w+): ", path.read_text("utf-8"), re.MULTILINE)) <= known
