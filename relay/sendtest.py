# SPDX-License-Identifier: MIT
"""send-test: one message through the running relay's SMTP port, as a device would send it. Knows no Graph."""

from __future__ import annotations

import base64
import mimetypes
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relay import testmail
from relay.config import Config, ListenAddress
from relay.identity import Credentials
from relay.loopback import is_loopback

_TIMEOUT_S = 30.0
_GREATEST_WAIT_S = 60.0  # beyond submit_timeout, for the answer to the data

# What a refusal means, by reply code and enhanced code; docs/replies.md has all of them.
MEANINGS = {
    "421 4.7.0": "too many connections, or too many failed logins from this address; wait, or raise the limit",
    "421 4.3.2": "the relay is being stopped",
    "451 4.4.1": "the relay cannot reach Microsoft: network, proxy or Microsoft's service; see `check --online`",
    "451 4.4.5": "Microsoft throttles this mailbox; it goes through later",
    "451 4.7.0": "Microsoft gave no token or refused it; see `check --online`",
    "451 4.7.28": "a sending limit of the mailbox or tenant is reached; wait",
    "451 4.3.0": "a fault of the relay; look for submission_fault in its log",
    "452 4.2.2": "the sending mailbox is full",
    "454 4.7.0": "Entra ID cannot be asked, or the app's registration is wrong; see `check --online`",
    "530 5.7.0": "the relay wants a login: give --user and --password-file, or set allow_anonymous",
    "535 5.7.8": "the login is wrong, expired or disabled, or the account needs multi-factor authentication",
    "538 5.7.11": "the relay wants TLS before the login",
    "550 5.1.3": "Microsoft refused the recipient's address",
    "550 5.1.8": "the sending mailbox does not exist, or is not in Exchange Online",
    "550 5.7.1": "not allowed: allowed_from, allowed_recipients, or the app's permission Mail.Send; the log says which",
    "550 5.7.60": "the mailbox may not send as this From address; grant Send As, or use the mailbox's own with --from",
    "552 5.3.4": "too large, for max_message_size or for Microsoft",
    "554 5.6.0": "Microsoft refused the message itself; the log has its code",
    "554 5.7.1": "this machine's address is not in allowed_networks",
}


class NotSent(Exception):
    """Why it was not sent. The text is for the terminal."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to send. login: None sends without one."""

    to: str
    sender: str
    attach: Path | None = None
    login: Credentials | None = None

    @property
    def is_ascii(self) -> bool:
        """Whether the addresses are such as every server takes."""
        return (self.to + self.sender).isascii()


def send(config: Config, order: Order, say: Callable[[str], None]) -> None:
    """Send, and say each step as it is done. Raises NotSent."""
    octets = message(order)
    with _connected(config, say) as client:
        if order.login is not None:
            _log_in(client, order.login, say)
        try:
            if client.sock is not None:
                client.sock.settimeout(config.graph.submit_timeout_s + _GREATEST_WAIT_S)
            options = () if order.is_ascii else ("SMTPUTF8",)  # RFC 6531 §3.4
            _refused_by(client.mail(order.sender, options), "the sender")
            _refused_by(client.rcpt(order.to), "the recipient")
            code, text = client.data(octets)
        except smtplib.SMTPResponseException as fault:
            raise NotSent(explained(fault.smtp_code, fault.smtp_error)) from None
        except (smtplib.SMTPException, OSError) as fault:
            raise NotSent(f"the connection broke off: {type(fault).__name__}") from None
        _refused_by((code, text), "the message")
        say(f"message: {code} {_text(text)}")


def message(order: Order) -> bytes:
    """The octets. Raises NotSent when the file to attach cannot be read."""
    made = testmail.message(
        order.sender, order.to, "This is a test. It went through the relay as a device's mail does.\n"
    )
    if order.attach is not None:
        kind = (mimetypes.guess_type(order.attach.name)[0] or "application/octet-stream").split("/")
        try:
            content = order.attach.read_bytes()
        except OSError as fault:
            raise NotSent(f"{order.attach}: cannot be read: {fault.strerror}") from None
        made.add_attachment(content, maintype=kind[0], subtype=kind[1], filename=order.attach.name)
    return made.as_bytes()


def _connected(config: Config, say: Callable[[str], None]) -> smtplib.SMTP:
    """At the first address that answers: the plain ones, then those of implicit TLS. Raises NotSent."""
    reasons = []
    for address, is_implicit in (
        *((one, False) for one in config.listen.addresses),
        *((one, True) for one in config.tls.implicit_addresses),
    ):
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104
        where = ListenAddress(host, address.port)
        if not address.port:
            reasons.append(f"{address}: the port is chosen at each start; give a fixed one in listen_addr")
            continue
        context = _tls_context(host, config.tls.cert_file)
        try:
            client = (
                smtplib.SMTP_SSL(host, address.port, timeout=_TIMEOUT_S, context=context)
                if is_implicit
                else smtplib.SMTP(host, address.port, timeout=_TIMEOUT_S)
            )
        except smtplib.SMTPConnectError as fault:
            raise NotSent(f"{where}: {explained(fault.smtp_code, fault.smtp_error)}") from None
        except (OSError, smtplib.SMTPException) as fault:
            reasons.append(f"{where}: no connection ({_reason(fault)}); is the relay running?")
            continue
        try:
            _greet(client, context, is_implicit=is_implicit)
        except (OSError, smtplib.SMTPException) as fault:
            client.close()
            raise NotSent(f"{where}: TLS failed ({_reason(fault)})") from None
        say(f"connected: {where}{', with TLS' if isinstance(client.sock, ssl.SSLSocket) else ''}")
        return client
    raise NotSent("\n".join(reasons))


def _greet(client: smtplib.SMTP, context: ssl.SSLContext, *, is_implicit: bool) -> None:
    client.ehlo_or_helo_if_needed()
    if not is_implicit and client.has_extn("starttls"):
        client.starttls(context=context)
        client.ehlo()


def _tls_context(host: str, cert_file: str) -> ssl.SSLContext:
    """Its own certificate is one that it trusts; on loopback nobody can stand in between, so any will do."""
    context = ssl.create_default_context()
    context.check_hostname = False  # listen_addr is an address, and the certificate is for a name
    if cert_file:
        context.load_verify_locations(cert_file)
    if is_loopback(host):
        context.verify_mode = ssl.CERT_NONE
    return context


def _log_in(client: smtplib.SMTP, login: Credentials, say: Callable[[str], None]) -> None:
    if not client.has_extn("auth"):
        raise NotSent("the relay offers no login on this connection")
    plain = f"\0{login.user}\0{login.password.reveal()}".encode()  # RFC 4616 §2; smtplib itself takes ASCII only
    try:
        code, text = client.docmd("AUTH", "PLAIN " + base64.b64encode(plain).decode("ascii"))
    except (smtplib.SMTPException, OSError) as fault:
        raise NotSent(f"login of {login.user}: {_reason(fault)}") from None
    if code != 235:
        raise NotSent(f"login of {login.user}: {explained(code, text)}")
    say(f"logged in as {login.user}: {code} {_text(text)}")


def _refused_by(answer: tuple[int, bytes], what: str) -> None:
    code, text = answer
    if code not in (250, 251):
        raise NotSent(f"{what} was refused: {explained(code, text)}")


def explained(code: int, text: bytes | str) -> str:
    """The reply, and below it what it means."""
    reply = _text(text)
    meaning = MEANINGS.get(f"{code} {reply.split(' ')[0]}", "see docs/replies.md, and the relay's log")
    return f"{code} {reply}\n    {meaning}"


def _text(text: bytes | str) -> str:
    return text.decode("ascii", "replace") if isinstance(text, bytes) else text


def _reason(fault: Exception) -> str:
    return getattr(fault, "strerror", None) or type(fault).__name__
