# SPDX-License-Identifier: MIT
"""The command line by itself: what was typed wrong or given up is one line and an exit code, never a traceback."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.relay_process import PROGRAM, environment, run_once


def test_no_key_is_made_for_a_file_that_cannot_be_encrypted(tmp_path: Path) -> None:
    key, config = tmp_path / "key", tmp_path / "config.yaml"
    ended = run_once("encrypt", "--config", config, "--key-file", key)
    assert (ended.returncode, ended.stderr) == (2, f"{config}: No such file or directory\n")
    config.write_text("client_secret: *x\n")
    ended = run_once("encrypt", "--config", config, "--key-file", key)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"{config}:1: ")
    assert not key.exists()


@pytest.mark.parametrize(
    ("answers", "code"),
    [((b"pw\n", b"pw\n"), 0), ((b"pw\n", b"px\n"), 2), ((b"\x04",), 2), ((b"\x03\n",), 1)],
    ids=["twice", "differ", "end", "break"],
)
def test_hash_password_on_a_terminal(answers: tuple[bytes, ...], code: int) -> None:
    """The line end behind Ctrl-C is for an interpreter that has the signal just before it begins to read."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in a shell's background
        os.execve(sys.executable, [sys.executable, str(PROGRAM), "hash-password"], environment({}))  # noqa: S606
    shown = b""
    try:
        for prompt, answer in zip((b"Password: ", b"Again: "), answers, strict=False):
            while prompt not in shown:
                shown += os.read(terminal, 1000)
            os.write(terminal, answer)  # and not before: what is typed ahead is dropped with the echo
        while octets := os.read(terminal, 1000):
            shown += octets
    except OSError:  # how Linux tells that nobody is there any more (pty(7))
        pass
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    assert b"Traceback" not in shown
    assert (b"scrypt$" in shown) is (code == 0)


def test_hash_password_from_what_is_no_text() -> None:
    """A traceback would help nobody."""
    command = [sys.executable, str(PROGRAM), "hash-password"]
    env = environment({"PYTHONIOENCODING": "utf-8:strict"})
    ended = subprocess.run(command, input=b"p\xffw\n", capture_output=True, env=env, check=False)
    assert (ended.returncode, ended.stderr) == (2, b"standard input: is not UTF-8 text\n")


def test_hash_password_without_standard_input() -> None:
    command = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, str(PROGRAM), "hash-password"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment({}), check=False)
    assert (ended.returncode, ended.stderr) == (2, "graph-smtp-relay: the password is empty, or the two differ\n")


@pytest.mark.parametrize("address", ["", "a@example.com>\r\nRCPT TO:<b@example.com"])
@pytest.mark.parametrize(
    "command", [["send-test", "--to"], ["send-test", "--to", "a@example.com", "--from"], ["check", "--send-to"]]
)
def test_what_is_no_address_is_wrong_usage(command: list[str], address: str) -> None:
    ended = run_once(*command, address)
    assert ended.returncode == 2
    assert "must be a mail address" in ended.stderr
