# SPDX-License-Identifier: MIT
"""The man pages and the completion: as the command line and the table of keys say, clean, of use in a real shell."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from relay.arguments import parser_of
from tests.support.needed import need
from tests.support.relay_process import CHECKOUT, run_once

MAN = sorted((CHECKOUT / "packaging" / "man").iterdir())
COMPLETION = CHECKOUT / "packaging" / "completion" / "graph-smtp-relay"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = CHECKOUT / "packaging" / "make_command_docs.py"
    spec = importlib.util.spec_from_file_location("make_command_docs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_up_to_date(maker: ModuleType) -> None:
    for path, text in maker.outputs().items():
        assert path.read_text("utf-8") == text, f"run packaging/make_command_docs.py to renew {path.name}"


def test_each_option_says_what_it_does(maker: ModuleType) -> None:
    for name, command in maker.commands().items():
        assert command.description, name
        for action in maker.options_of(command):
            assert action.help, f"{name} {action.dest}"
            assert maker.value_of(action) or action.nargs == 0, f"{name} {action.dest} has no metavar"


def test_help_of_each_command(maker: ModuleType) -> None:
    for name, command in maker.commands().items():
        ended = run_once(name, "--help")
        assert (ended.returncode, ended.stderr) == (0, ""), name
        for action in (*maker.options_of(command), *parser_of()._actions[:3]):
            for option in action.option_strings:
                assert option in ended.stdout, f"{name} {option}"


@pytest.mark.parametrize("path", MAN, ids=lambda path: path.name)
def test_man_pages_are_clean(path: Path) -> None:
    need("mandoc", "mandoc")
    ended = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(path)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "")
    need("man", "man-db")
    ended = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(path)],
        env={"MANROFFSEQ": "", "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def completed(line: str, cwd: Path) -> list[str]:
    """What a real bash offers behind the line; its last word is being completed."""
    need("bash", "bash")
    script = f"""
        source "$1"
        COMP_WORDS=({line}"$2")
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        compopt() {{ :; }}  # has no place outside of a completion
        complete -p graph-smtp-relay >/dev/null && _graph_smtp_relay
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ended = subprocess.run(
        ["bash", "-c", script, "bash", str(COMPLETION), ""], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    return ended.stdout.split("\n")[:-1]


def test_completion(maker: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "directory").mkdir()
    program = "graph-smtp-relay "
    assert set(maker.commands()) < set(completed(program, tmp_path))
    assert set(maker.commands()) < set(completed(program + "--config run ", tmp_path))
    for name, command in maker.commands().items():
        options = {option for action in maker.options_of(command) for option in action.option_strings}
        assert options | {"--config", "--key-file"} <= set(completed(f"{program}--config x {name} ", tmp_path)), name
    assert {"install", "status"} < set(completed(program + "service ", tmp_path))
    assert completed(program + "sandbox --log-level ", tmp_path) == ["debug", "info", "warn", "error"]
    assert sorted(completed(program + "check --config ", tmp_path)) == ["a file", "directory"]
    assert completed(program + "tls-cert --dir ", tmp_path) == ["directory"]
    assert completed(program + "send-test --to ", tmp_path) == [""]
    assert "a file" in completed(program + "migrate ", tmp_path)


def test_completion_is_loaded_by_bash_completion(tmp_path: Path) -> None:
    """As Debian's package bash-completion does: by the command's name, from a directory of completions."""
    need("/usr/share/bash-completion/bash_completion", "bash-completion")
    (tmp_path / "completions").mkdir()
    (tmp_path / "completions" / "graph-smtp-relay").write_text(COMPLETION.read_text("utf-8"))
    script = (
        "source /usr/share/bash-completion/bash_completion; _completion_loader graph-smtp-relay; "
        "complete -p graph-smtp-relay"
    )
    ended = subprocess.run(
        ["bash", "--norc", "-ic", script],
        env={"BASH_COMPLETION_USER_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "complete -F _graph_smtp_relay graph-smtp-relay" in ended.stdout, ended.stderr
