# SPDX-License-Identifier: MIT
"""What the log gets of one connection. Never a password that came out of step, nor anything of a message."""

from __future__ import annotations

import logging

from relay.identity import Client, Identity
from relay.smtp import reply as replies
from relay.smtp.command import Command
from relay.smtp.reply import Reply
from relay.smtp.transaction import Transaction
from relay.stats import Result

log = logging.getLogger(__name__)

_BARE_LF = (
    "the client ends its message with a bare LF instead of CR LF and {}; "
    "if it is an old device, put its address into bare_lf_networks"
)


def _facts(client: Client, **more: object) -> dict[str, object]:
    return {"session": client.session, "client": client.address, **more}


def shows_dialogue() -> bool:
    """Whether the log wants commands and replies."""
    return log.isEnabledFor(logging.DEBUG)


def said(client: Client, event: str, **facts: object) -> None:
    """A step of the dialogue."""
    log.debug(event, extra=_facts(client, **facts))


def noted(client: Client, event: str, reason: str) -> None:
    """A fault of the client."""
    log.info(event, extra=_facts(client, reason=reason))


def warned(client: Client, event: str, reason: str) -> None:
    """Worth a look by the administrator."""
    log.warning(event, extra=_facts(client, reason=reason))


def fault(client: Client) -> None:
    """A bug of ours, with where it was; from within `except`."""
    log.exception("session_fault", extra=_facts(client))


def command(client: Client, parsed: Command, *, known: bool) -> None:
    """known: it is one of ours. An unknown verb may be a password that arrived out of step, and AUTH holds one."""
    if not known:
        shown = "(unknown)"
    elif parsed.verb == "AUTH":
        shown = "AUTH"
    else:
        shown = f"{parsed.verb} {parsed.argument}".rstrip()
    said(client, "smtp_command", command=shown)


def timed_out(client: Client, *, waiting_for_dot: bool) -> None:
    """waiting_for_dot: it seems to wait behind LF . LF."""
    if waiting_for_dot:
        warned(client, "timeout", _BARE_LF.format("waits"))
    else:
        log.info("timeout", extra=_facts(client))


def gone(client: Client, *, waiting_for_dot: bool) -> None:
    """waiting_for_dot: it seems to have waited behind LF . LF, and given up before we did."""
    if waiting_for_dot:
        warned(client, "client_gone", _BARE_LF.format("hung up without an answer"))
    else:
        said(client, "client_gone")


def address_refused(client: Client, key: str, identity: Identity) -> None:
    """key: of the configuration, in which the address is not."""
    log.info("address_refused", extra=_facts(client, user=identity.user, reason=f"the address is not in {key}"))


def refused(client: Client, transaction: Transaction, reply: Reply, size: int) -> tuple[Result, dict[str, object]]:
    """The one line of a message whose data was not taken: its event and facts."""
    key = "max_message_size" if reply is replies.TOO_LARGE else "max_inflight_bytes"
    event: Result = "rejected" if reply.code >= 500 else "deferred"
    facts = _facts(
        client,
        **transaction.facts(),
        size_bytes=size,
        form="none",
        attempts=0,
        duration_ms=0.0,
        reply=str(reply),
        reason=f"over {key}",
    )
    log.info(event, extra=facts)
    return event, facts
