# SPDX-License-Identifier: MIT
"""What the log says of the service's own life: its start, and each reload. For one process and for several."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from relay import __version__, listeners, logs
from relay.config import Config

log = logging.getLogger(__name__)


def started(config: Config, opened: listeners.Listeners) -> None:
    """What the log says at the start: the version, warnings, and each address listened on."""
    for warning in config.warnings:
        log.warning("config", extra={"reason": warning})
    log.info("started", extra={"version": __version__})
    for sock in opened.plain:
        log.info("listening", extra={"address": listeners.address_of(sock)})
    for sock in opened.implicit:
        log.info("listening", extra={"address": listeners.address_of(sock), "tls": "implicit"})
    if opened.admin is not None:
        log.info("admin_listening", extra={"address": listeners.address_of(opened.admin)})


def reloading(old: Config, new: Config) -> None:
    """What the log says of a new configuration before it is taken."""
    for warning in new.warnings:
        log.warning("config", extra={"reason": warning})
    for name in _needs_restart(old, new):
        log.warning("restart_needed", extra={"reason": f"{name} changes only with a restart"})


def reload_failed(fault: Exception) -> None:
    """Why there is no new configuration."""
    text = f"{fault.filename}: {fault.strerror}" if isinstance(fault, OSError) and fault.filename else str(fault)
    for line in text.splitlines():
        log.error("reload_failed", extra={"reason": f"{line}; the old configuration stays"})


def reopen(config: Config, worker: int = 0) -> None:
    """As it is configured."""
    try:
        logs.set_up(config.log, worker)
    except OSError as fault:
        log.error("reload_failed", extra={"reason": f"the log file cannot be opened: {fault.strerror}"})


def _needs_restart(old: Config, new: Config) -> Sequence[str]:
    changed = []
    if old.listen.addresses != new.listen.addresses:
        changed.append("listen_addr")
    if old.tls.implicit_addresses != new.tls.implicit_addresses:
        changed.append("tls.implicit_addr")
    if old.limits.max_connections != new.limits.max_connections:
        changed.append("max_connections")
    if old.admin != new.admin:
        changed.append("admin_addr or admin_password_hash")
    if old.process != new.process:
        changed.append("workers")
    return changed
