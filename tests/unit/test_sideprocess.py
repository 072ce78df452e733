# SPDX-License-Identifier: MIT
"""The process for large mail: it gives what the same work gives here, and mail goes on where it is lost."""

from __future__ import annotations

import base64
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay import __version__, sideprocess
from relay.message.model import MessageError
from relay.message.parse import read
from relay.sideprocess import SideProcess
from relay.spool import Octets, Spool, Spooled, digest_of

FILE = bytes(range(251)) * 8000  # 2 MB
HEADER = b'From: a@example.com\r\nSubject: =?utf-8?B?w6Q=?=\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
TEXT = b"--b\r\n\r\nText\r\n"
BINARY = b"--b\r\nContent-Type: application/pdf; name=%s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s\r\n"


class Here:
    """Does the work itself, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, work: Callable[[], Any]) -> Any:
        self.count += 1
        return work()


@pytest.fixture
def here() -> Here:
    return Here()


@pytest.fixture
def side(here: Here) -> Iterator[SideProcess]:
    made = SideProcess(here)
    yield made
    made.close()


def content(*parts: bytes) -> Octets:
    spool = Spool(digested=True)
    spool.append(HEADER + b"".join(parts) + b"--b--\r\n")
    return spool.finish()


def pdf(name: bytes, octets: bytes, encoding: bytes = b"base64") -> bytes:
    return BINARY % (name, encoding, base64.encodebytes(octets).replace(b"\n", b"\r\n"))


def reading(octets: Octets, *, strict: bool = False) -> Callable[[], tuple[Octets, Any]]:
    return partial(read, octets, strict_attachments=strict)


def children() -> set[int]:
    """Those of this process that live."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return {pid for pid in map(int, found) if "relay.sideprocess" in Path(f"/proc/{pid}/cmdline").read_text()}


@pytest.mark.parametrize(
    "parts",
    [
        (TEXT, pdf(b"large.pdf", FILE), pdf(b"small.pdf", FILE[:1000])),
        (TEXT, pdf(b"a.pdf", FILE), pdf(b"b.pdf", FILE[::-1])),
        (TEXT, BINARY % (b"text.txt", b"7bit", b"line\r\n" * 400_000)),
        (TEXT.replace(b"\r\n", b"\n"), pdf(b"bare.pdf", FILE).replace(b"\r\n", b"\n")),
    ],
    ids=["large and small", "two large", "not encoded", "bare LF"],
)
def test_reads_as_this_process_does(side: SideProcess, here: Here, parts: tuple[bytes, ...]) -> None:
    octets = content(*parts)
    assert isinstance(octets, Spooled)

    ends, message = side.run(reading(octets))
    wanted_ends, wanted = reading(octets)()

    assert bytes(ends) == bytes(wanted_ends)
    assert (message.subject, message.body, message.warnings) == (wanted.subject, wanted.body, wanted.warnings)
    assert message.subject == "ä"
    found = [(one.name, one.media_type, bytes(one.content)) for one in message.attachments]
    assert found == [(one.name, one.media_type, bytes(one.content)) for one in wanted.attachments]
    assert len(found) == len(parts) - 1
    assert here.count == 0


def test_digest_comes_back(side: SideProcess) -> None:
    octets = content(pdf(b"x.pdf", FILE))
    back, _ = side.run(reading(octets))
    assert digest_of(back) == digest_of(octets) != b""


def test_raises_what_the_work_raises(side: SideProcess, here: Here) -> None:
    broken = content(BINARY % (b"x.pdf", b"base64", b"%%%" * 400_000))
    with pytest.raises(MessageError, match="part 1 cannot be decoded"):
        side.run(reading(broken, strict=True))
    assert here.count == 0
    assert side.run(reading(broken))[1].attachments[0].name == "x.pdf"


def test_what_it_logs_is_logged_here(side: SideProcess, here: Here, caplog: pytest.LogCaptureFixture) -> None:
    side.run(reading(content(TEXT)))
    [pid] = children()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))  # as a full disk
    octets = content(TEXT, pdf(b"x.pdf", FILE))
    assert bytes(side.run(reading(octets))[1].attachments[0].content) == FILE
    assert here.count == 0
    said = {(one.name, one.levelname, one.getMessage(), one.__dict__["reason"]) for one in caplog.records}
    reason = "a large message stays in memory: no temporary file (File too large); free space or set TMPDIR"
    assert said == {("relay.spool", "WARNING", "spool_failed", reason)}
    caplog.clear()
    side.run(reading(content(TEXT)))
    assert caplog.records == []


def test_one_process_serves_many(side: SideProcess) -> None:
    side.run(reading(content(TEXT)))
    first = children()
    side.run(reading(content(TEXT)))
    assert len(first) == 1
    assert children() == first


def test_lost_process(side: SideProcess, here: Here, caplog: pytest.LogCaptureFixture) -> None:
    side.run(reading(content(TEXT)))
    [lost] = children()
    os.kill(lost, signal.SIGKILL)
    assert side.run(reading(content(TEXT)))[1].body.content.startswith("Text")
    assert here.count == 1
    assert [record.getMessage() for record in caplog.records] == ["side_process_lost"]
    assert side.run(reading(content(TEXT)))[1].body.content.startswith("Text")
    assert here.count == 1, "the next one gets a new process"
    assert children().isdisjoint({lost})


def test_no_process_can_be_had(side: SideProcess, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    assert side.run(reading(content(TEXT)))[1].body.content.startswith("Text")
    assert here.count == 1
    assert children() == set()


def test_more_files_than_can_be_passed_on(side: SideProcess, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sideprocess, "_MOST_FILES", 1)
    large = content(TEXT, pdf(b"a.pdf", FILE))
    assert side.run(partial(max, [large, content(TEXT, pdf(b"b.pdf", FILE))], key=len)) is large
    assert here.count == 1


def test_whoever_is_killed_leaves_no_answer_behind(side: SideProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    side.run(reading(content(TEXT)))
    before = children()

    def killed(channel: object) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sideprocess, "_hear", killed)
        with pytest.raises(KeyboardInterrupt):
            side.run(reading(content(TEXT)))
    assert children() == set()
    assert side.run(partial(sum, (1, 2))) == 3
    assert children().isdisjoint(before)


def test_ends_after_a_rest(side: SideProcess) -> None:
    side.run(reading(content(TEXT)))
    side.rest()
    assert len(children()) == 1, "it was used since the last time"
    side.rest()
    assert children() == set()
    assert side.run(partial(sum, (1, 2))) == 3


def test_signals_to_the_group_do_not_end_it(side: SideProcess, here: Here) -> None:
    side.run(partial(sum, (1, 2)))
    [pid] = children()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert side.run(partial(sum, (1, 2))) == 3
    assert children() == {pid}
    assert here.count == 0


def test_other_version_on_the_disk(side: SideProcess, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sideprocess, "__version__", "before the upgrade")
    assert side.run(reading(content(TEXT)))[1].body.content.startswith("Text")
    assert here.count == 1


def test_no_descriptors_left(side: SideProcess, here: Here) -> None:
    large = reading(content(TEXT, pdf(b"a.pdf", FILE), pdf(b"b.pdf", FILE)))
    side.run(large)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        side.run(partial(sum, (1, 2)))
        assert here.count == 0
        assert len(side.run(large)[1].attachments) == 2, "what the thread finds no file for stays in memory"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert here.count == 1
    assert len(side.run(large)[1].attachments) == 2
    assert here.count == 1


CLOSED = """
import os, sys
from functools import partial
from relay.sideprocess import SideProcess
os.close(0)
os.close(1)
side = SideProcess(lambda work: "in a thread")
print(side.run(partial(sum, (1, 2))), file=sys.stderr)
side.close()
"""


def test_standard_input_and_output_are_closed() -> None:
    done = subprocess.run([sys.executable, "-c", CLOSED], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stderr, done.returncode) == ("3\n", 0)


def test_number_that_is_another_process_by_now(side: SideProcess) -> None:
    side.run(partial(sum, (1, 2)))
    [pid] = children()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    killed: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "kill", lambda number, _: killed.append(number))
        side.close()
    assert killed == []


def test_nobody_hears_the_answer(capfd: pytest.CaptureFixture[str]) -> None:
    """It ends, and writes nothing to the log."""
    ours, theirs = socket.socketpair()
    with theirs:
        sideprocess._tell(ours, reading(content(pdf(b"x.pdf", FILE))))
        ours.close()
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", f"from relay.sideprocess import serve; serve({__version__!r})"],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)],
        )
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert capfd.readouterr().err == ""
