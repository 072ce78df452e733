# SPDX-License-Identifier: MIT
"""The two commands that serve until they are told to stop: run, and sandbox, the relay beside its Microsoft 365."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from relay import configfile, configvalue, logs, signals
from relay.config import Config
from relay.configfile import ConfigError
from relay.configvalue import BadValue

if TYPE_CHECKING:
    from relay.app import Relay
    from relay.supervisor import Supervisor

_SWITCH_S = 0.0005  # for so long a thread that parses may keep the event loop waiting; by default ten times as long


def run(path: Path, key_file: str | None, debug_client: str) -> int:
    """The exit code. debug_client: the address of --debug-session, or empty. Raises ConfigError."""

    def load() -> Config:
        config = configfile.load(path, key_file=key_file)
        return dataclasses.replace(config, log=dataclasses.replace(config.log, debug_client=debug_client))

    signals.leave_by(os._exit)  # nothing has to be tidied up yet, and no library can catch it
    config = load()
    if not _open_log(config):
        return 1
    from relay.graph.errors import AppMisconfigured

    try:
        relay = _built(config, load)
    except (AppMisconfigured, OSError) as fault:  # OSError: a file has gone since it was looked at
        raise ConfigError((f"{path}: {fault}",)) from None
    return _serve(relay)


def _built(config: Config, load: Callable[[], Config]) -> Relay | Supervisor:
    """In as many processes as are configured. Raises AppMisconfigured, OSError."""
    workers = config.process.workers or len(os.sched_getaffinity(0))
    if workers == 1:
        from relay.app import Relay

        return Relay(config, load)
    from relay.supervisor import Supervisor

    return Supervisor(config, load, workers)


def sandbox(options: argparse.Namespace) -> int:
    """The exit code. Raises ConfigError."""
    from relay.app import Relay
    from relay.sandbox import console
    from relay.sandbox.capture import summary
    from relay.sandbox.mails import mails
    from relay.sandbox.server import Sandbox, SandboxSettings

    _check_address("--listen", options.listen)
    _check_address("--admin", options.admin)
    if options.save is not None and not _can_save(options.save):
        return 1
    signals.leave_by(sys.exit)  # which removes the directory
    try:
        temporary = tempfile.TemporaryDirectory(prefix="graph-smtp-relay-sandbox-")
    except OSError as fault:
        reason = f"no place for the sandbox's certificate: {fault.strerror}; set TMPDIR"
        print(f"graph-smtp-relay: {reason}", file=sys.stderr)
        return 1
    with temporary as directory:
        upstream = Sandbox(
            SandboxSettings(permissions=frozenset({"Mail.Send", "Mail.ReadWrite"}), save_dir=options.save),
            Path(directory),
            on_message=lambda captured: print(summary(captured), flush=True),
        )
        upstream.start()
        config = configfile.parse(
            console.config_text(options.listen, options.log_level, upstream.url, upstream.ca_file, options.admin),
            name="sandbox",
            directory=Path(directory),
            environ={},
        )
        if file := getattr(options, "config", None):
            given = configfile.load(Path(file), key_file=options.key_file, needs_account=False)
            config = console.with_file(config, given, listen=not options.listen, admin=not options.admin)
        if not _open_log(config):
            return 1
        try:
            relay = Relay(config, mails=lambda: mails(upstream.received, upstream.messages))
            return _serve(
                relay, lambda addresses: print(console.how_to_use(addresses, relay.admin_address()), flush=True)
            )
        finally:
            upstream.stop()


def _serve(relay: Relay | Supervisor, started: Callable[[list[str]], None] | None = None) -> int:
    try:
        _settle()
        addresses = relay.start()
    except OSError as fault:
        from relay.smtp.server import CannotListen

        reason = f"cannot listen on {fault.strerror}" if isinstance(fault, CannotListen) else f"cannot start: {fault}"
        print(f"graph-smtp-relay: {reason}", file=sys.stderr)
        return 1
    if started is not None:
        started(addresses)
    code = relay.run()
    _let_go_of_output()
    return code


def _open_log(config: Config) -> bool:
    try:
        logs.set_up(config.log)
    except OSError as fault:
        print(
            f"graph-smtp-relay: the log file {config.log.path} cannot be opened: {fault.strerror}; "
            "change `log` or the rights",
            file=sys.stderr,
        )
        return False
    return True


def _check_address(option: str, text: str) -> None:
    """Raises ConfigError."""
    try:
        if text:
            configvalue.address(text)
    except BadValue as fault:
        raise ConfigError((f"graph-smtp-relay: {option}: {fault}",)) from None


def _can_save(directory: Path) -> bool:
    """Whether messages can be kept there; else says why not, before each of them fails for it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError as fault:
        print(f"graph-smtp-relay: --save {directory}: {fault.strerror}", file=sys.stderr)
        return False


def _settle() -> None:
    """Keep out of the way of messages what need not be."""
    gc.collect()
    gc.freeze()  # what is there now stays: the collector would stop everybody for some 30 ms to find that out
    sys.setswitchinterval(_SWITCH_S)


def _let_go_of_output() -> None:
    """Where nobody reads our output any more, Python would try once more at its end, and make 120 of the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
