# SPDX-License-Identifier: MIT
"""check --online: walks from the name server to the mailbox, one step after the other, and says what to mend.

Uses the relay's own ways to Entra ID and Graph, so that what works here works there. Sends nothing unless told to.
"""

from __future__ import annotations

import base64
import binascii
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import requests

from relay import testmail
from relay.clock import Clock, Deadline
from relay.config import Config, EntraConfig
from relay.credentials import Secret
from relay.delivery import Account, Delivery
from relay.graph.aadsts import SECRET_REFUSED
from relay.graph.client import GraphClient
from relay.graph.entra import Granted, flow_of
from relay.graph.errors import (
    AppMisconfigured,
    CredentialsRefused,
    GraphError,
    InvalidRecipients,
    OutcomeUnknown,
    Refused,
    TokenError,
    UpstreamError,
)
from relay.graph.http import CONNECT_TIMEOUT_S, ENTRA_READ_TIMEOUT_S, EntraHttpClient, http_session
from relay.graph.large import LargeMail
from relay.graph.mail import Mailer
from relay.graph.retry import RetryPolicy
from relay.graph.tokens import TokenSource
from relay.health import own_login
from relay.identity import APP_LOGIN, Credentials, Identity, new_id
from relay.message.model import ContentError
from relay.smtp.envelope import Envelope
from relay.stats import WARN_DAYS, secret_warning

Outcome = Literal["ok", "failed", "skipped"]
MARKS: dict[Outcome, str] = {"ok": "✔", "failed": "✘", "skipped": "–"}  # noqa: RUF001 - a dash
_TIMEOUT_S = 60.0
_MOST_MAILBOXES = 10
# No recipient: Exchange finds the mailbox, and then refuses. Nothing can be sent by it.
_EMPTY_MAIL = b'{"message":{"subject":"","toRecipients":[]},"saveToSentItems":false}'


@dataclass(frozen=True, slots=True)
class Step:
    """One line. advice: for a failed one, what it means and what to do."""

    name: str
    outcome: Outcome
    text: str
    advice: str = ""

    def line(self) -> str:
        """For a terminal."""
        head = f"{MARKS[self.outcome]} {self.name}: {self.text}"
        return f"{head}\n    {self.advice}" if self.advice else head

    def as_json(self) -> dict[str, str]:
        return asdict(self)


class OnlineCheck:
    """steps() yields each step as it is done."""

    def __init__(
        self,
        config: Config,
        guard: Callable[[float], AbstractContextManager[Any]],
        login: Credentials | None = None,
        send_to: str = "",
    ) -> None:
        """login: a Microsoft 365 user to try, instead of the fallback credentials. send_to: who gets a test mail."""
        graph, entra = config.graph, config.entra
        proxy = graph.https_proxy.reveal()
        self._config = config
        self._guard = guard
        self._login = login or own_login(config)
        self._send_to = send_to
        self._entra = http_session(entra.authority, 2, proxy, graph.ca_bundle)
        self._graph = http_session(graph.url, 2, proxy, graph.ca_bundle)
        self._client = GraphClient(self._graph, graph.url, guard)
        self._down: set[str] = set()  # what failed, so that nothing behind it is tried

    def steps(self) -> Iterator[Step]:
        """From the name server to the mailbox."""
        config = self._config
        if config.entra.flow != "managed_identity":  # the machine's own endpoint asks Entra ID for us
            yield from self._reach("Entra ID", self._entra, config.entra.authority)
        yield from self._reach("Graph", self._graph, config.graph.url)
        if config.entra.flow not in ("managed_identity", "client_login"):
            yield self._tenant() if "Entra ID" not in self._down else _not_tried("tenant", "Entra ID")
            yield from self._app()
            yield from self._secrets()
        yield from self._secret_expiry()
        step, token = self._token()
        yield step
        if token is not None:
            yield self._permissions(token)
        yield from self._mailboxes(token)
        if self._send_to:
            yield self._test_mail(token)

    # The way there

    def _reach(self, service: str, session: requests.Session, url: str) -> Iterator[Step]:
        proxy = str(session.proxies.get("https") or "")
        what = f"{service}'s proxy" if proxy else service
        target = proxy if "//" in proxy else f"http://{proxy}"  # in the environment, the scheme may be left out
        try:
            parts = urlsplit(target if proxy else url)
            host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
        except ValueError:  # what the environment says was not looked at before
            self._down.add(service)
            yield Step(what, "failed", "no address", "HTTPS_PROXY of the environment must be http://HOST:PORT")
            yield _not_tried(f"TLS to {service}", what)
            return
        dns = _resolve(what, host)
        yield dns
        if dns.outcome == "ok" and proxy:
            dns = _connect(host, port)
            yield dns
        if dns.outcome != "ok":
            self._down.add(service)
            yield _not_tried(f"TLS to {service}", what)
            return
        tls = _tls(service, session, url)
        if tls.outcome != "ok":
            self._down.add(service)
        yield tls

    def _tenant(self) -> Step:
        entra = self._config.entra
        url = f"{entra.authority}/{entra.tenant_id}/v2.0/.well-known/openid-configuration"
        try:
            status = self._entra.get(url, timeout=(CONNECT_TIMEOUT_S, ENTRA_READ_TIMEOUT_S)).status_code
        except requests.RequestException as fault:
            return Step("tenant", "failed", "no answer", _http_advice(fault))
        if status == 200:
            return Step("tenant", "ok", entra.tenant_id)
        if status in (400, 404):
            advice = "Entra ID knows no such tenant; check oauth2_config.tenant_id, and cloud or authority"
            return Step("tenant", "failed", f"{entra.tenant_id} (HTTP {status})", advice)
        return Step("tenant", "failed", f"HTTP {status}", "Entra ID is busy or has failed; try again later")

    # The app and its tokens

    def _app(self) -> Iterator[Step]:
        """With flow password too, the app's own credentials can be tried alone, without any user."""
        if self._config.entra.flow != "password":
            return  # the token is that of the app
        if "Entra ID" in self._down:
            yield _not_tried("app and secret", "Entra ID")
            return
        alone = replace(self._config.entra, flow="client_credentials")
        try:
            self._acquire(alone, APP_LOGIN)
        except AppMisconfigured as fault:
            self._down.add("app")
            yield _failed("app and secret", fault)
        except CredentialsRefused:
            yield Step("app and secret", "skipped", "a policy of the tenant lets the app get no token alone")
        except TokenError as fault:
            self._down.add("app")
            yield _failed("app and secret", fault)
        else:
            yield Step("app and secret", "ok", "Entra ID takes them")

    def _secrets(self) -> Iterator[Step]:
        """Which of two does not work: as long as the other one does, mail goes out, and nobody would notice."""
        entra = self._config.entra
        if len(entra.client_secrets) < 2 or entra.client_certificate or {"Entra ID", "app"} & self._down:
            return
        for name, secret in zip(("first", "second"), entra.client_secrets, strict=True):
            step = f"{name} client_secret"
            try:
                self._acquire(replace(entra, flow="client_credentials", client_secrets=(secret,)), APP_LOGIN)
            except TokenError as fault:
                if fault.entra_code in SECRET_REFUSED:
                    advice = (
                        "renew it in oauth2_config.client_secret, or leave it out when the other one is the new one"
                    )
                    yield Step(step, "failed", f"refused ({fault.entra_code})", advice)
                else:  # which is no fault of the secret, and told of by other steps
                    yield Step(step, "skipped", f"cannot be told ({fault.entra_code or 'no answer'})")
            else:
                yield Step(step, "ok", "Entra ID takes it")

    def _secret_expiry(self) -> Iterator[Step]:
        expires = self._config.entra.secret_expires
        if not expires:
            return
        days = (datetime.fromisoformat(expires).date() - datetime.now(UTC).date()).days
        if days < 0:
            yield Step("secret's end", "failed", expires, secret_warning(days))
        else:
            yield Step(
                "secret's end", "ok", f"{expires}, in {days} days", secret_warning(days) if days <= WARN_DAYS else ""
            )

    def _token(self) -> tuple[Step, Secret | None]:
        flow = self._config.entra.flow
        missing = {"Entra ID", "app"} & self._down
        if missing:
            return _not_tried("token", *missing), None
        if self._login is None:
            login = "tenant_id@client_id and the secret" if flow == "client_login" else "a Microsoft 365 user"
            text = f"flow {flow} asks Entra ID with the client's login; give {login} with --user and --password-file"
            return Step("token", "skipped", text), None
        try:
            granted = self._acquire(self._config.entra, self._login)
        except TokenError as fault:
            return _failed("token", fault), None
        whose = f"for {self._login.user}" if self._login.user else "for the app"
        return Step("token", "ok", f"{whose}, valid for {granted.expires_in_s / 60:.0f} minutes"), granted.token

    def _acquire(self, entra: EntraConfig, login: Credentials) -> Granted:
        flow = flow_of(entra, EntraHttpClient(self._entra, entra.authority), self._guard)
        return flow.acquire(login, _TIMEOUT_S)

    def _permissions(self, token: Secret) -> Step:
        name = "permissions"
        claims = read_claims(token)
        if claims is None:
            return Step(name, "skipped", "the token cannot be read")
        is_delegated = "scp" in claims
        held = _words(claims.get("scp") or claims.get("roles"))
        large = "" if "Mail.ReadWrite" in held else "without Mail.ReadWrite: no message over single_request_limit"
        if "Mail.Send" in held:
            return Step(name, "ok", ", ".join(name for name in held if name.startswith("Mail.")), large)
        if is_delegated:
            advice = "grant the delegated permission Mail.Send in the app registration, with admin consent"
            return Step(name, "failed", f"no Mail.Send in {', '.join(held) or 'an empty list'}", advice)
        text = "the token names no Mail.Send; that is right only if RBAC for Applications grants it in Exchange"
        return Step(name, "skipped", text)

    # The mailboxes

    def mailboxes(self) -> list[str]:
        """Those that the configuration or the login names."""
        config = self._config
        if config.entra.flow == "password":
            return [self._login.user] if self._login else []
        accounts = config.accounts
        users, clients = (one.mailbox for one in accounts.users), (one.mailbox for one in accounts.clients)
        named = (*users, *clients, accounts.default_mailbox)
        return list(dict.fromkeys(mailbox for mailbox in named if mailbox))

    def _mailboxes(self, token: Secret | None) -> Iterator[Step]:
        found = self.mailboxes()
        if token is None or "Graph" in self._down:
            yield _not_tried("mailbox", "Graph" if "Graph" in self._down else "a token")
        elif not found:
            yield Step("mailbox", "skipped", "the configuration names none; that of the From address will send")
        else:
            yield from (self._mailbox(mailbox, token) for mailbox in found[:_MOST_MAILBOXES])

    def _mailbox(self, mailbox: str, token: Secret) -> Step:
        """By a mail to nobody: with Mail.Send alone, nothing else may be asked of a mailbox."""
        name = f"mailbox {mailbox}"
        try:
            self._client.send_mail(mailbox, _EMPTY_MAIL, "application/json", token, _TIMEOUT_S)
        except InvalidRecipients:
            return Step(name, "ok", "there, and the token may send from it")
        except Refused as fault:
            return Step(name, "skipped", f"cannot be told ({fault.code or fault.status})")
        except OutcomeUnknown as fault:  # whose advice is about a mail that may have gone
            advice = "Graph gave no clear answer; try again, and look at Microsoft's service health if it lasts"
            return Step(name, "failed", f"HTTP {fault.status}" if fault.status else "no answer", advice)
        except GraphError as fault:
            return _failed(name, fault)
        return Step(name, "ok", "there")

    def _test_mail(self, token: Secret | None) -> Step:
        name = f"test mail to {self._send_to}"
        senders = self.mailboxes()
        if self._login is None:
            return Step(name, "failed", "nobody to send it", "give --user and --password-file, or fallback credentials")
        if token is None or "Graph" in self._down:
            return _not_tried(name, "Graph" if "Graph" in self._down else "a token")
        if not senders:
            return Step(name, "failed", "no sender", "set default_mailbox, a mailbox in users, or give --user")
        identity = Identity(senders[0], senders[0], self._login)
        clock, graph = Clock(), self._config.graph
        tokens = TokenSource(lambda login, timeout_s: Granted(token, _TIMEOUT_S * 10), clock)
        policy = RetryPolicy(graph.retry_attempts, graph.retry_initial_delay_ms / 1000)
        large = LargeMail(self._client, tokens, policy, clock, graph.single_request_limit_bytes)
        delivery = Delivery(Mailer(self._client, tokens, policy, clock), large, graph, clock)
        envelope = Envelope(new_id(), senders[0], (self._send_to,))
        deadline = Deadline(clock, graph.submit_timeout_s)
        text = "This is a test. It went through Microsoft Graph, so the relay is set up well.\n"
        content = testmail.message(senders[0], self._send_to, text).as_bytes()
        try:
            receipt = delivery.deliver(envelope, content, identity, deadline, Account())
        except (UpstreamError, ContentError) as fault:
            return _failed(name, fault)
        return Step(name, "ok", f"Microsoft has taken it from {senders[0]} (request-id {receipt.request_id})")


def read_claims(token: Secret) -> dict[str, Any] | None:
    """What a JWT says of itself (RFC 7519 §4), unverified; None where it is none. It is Graph's, so it need not be."""
    parts = token.reveal().split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _words(claim: object) -> list[str]:
    """scp is one string, roles a list."""
    if isinstance(claim, str):
        return claim.split()
    return [str(one) for one in claim] if isinstance(claim, list) else []


def _failed(name: str, fault: Exception) -> Step:
    code = getattr(fault, "entra_code", "") or getattr(fault, "code", "")
    status = getattr(fault, "status", 0)
    text = " ".join(part for part in (f"HTTP {status}" if status else "", code) if part) or "refused"
    return Step(name, "failed", text, str(fault))


def _not_tried(name: str, *needs: str) -> Step:
    return Step(name, "skipped", f"not tried; it needs {' and '.join(sorted(needs))}")


def _resolve(what: str, host: str) -> Step:
    name = f"DNS of {what}"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        advice = "the name cannot be resolved; check the name servers in /etc/resolv.conf, and the name's spelling"
        return Step(name, "failed", host, advice)
    return Step(name, "ok", f"{host} is {', '.join(dict.fromkeys(str(entry[4][0]) for entry in found))}")


def _connect(host: str, port: int) -> Step:
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        advice = "the proxy does not answer; check https_proxy (or the environment's HTTPS_PROXY) and the firewall"
        return Step("proxy", "failed", f"{host}:{port}", advice)
    return Step("proxy", "ok", f"{host}:{port}")


def _tls(service: str, session: requests.Session, url: str) -> Step:
    name = f"TLS to {service}"
    try:
        session.get(url, timeout=(CONNECT_TIMEOUT_S, ENTRA_READ_TIMEOUT_S), allow_redirects=False, stream=True).close()
    except requests.RequestException as fault:
        return Step(name, "failed", url, _http_advice(fault))
    return Step(name, "ok", url)


def _http_advice(fault: requests.RequestException) -> str:
    """Never the fault's own text: it quotes the proxy's address, with its password."""
    if isinstance(fault, requests.exceptions.SSLError):
        return "the certificate is not trusted; if a proxy or firewall inspects TLS, put its CA into ca_bundle"
    if isinstance(fault, requests.exceptions.ProxyError):
        return "the proxy refused or failed; check https_proxy, its user name and password, and what it lets through"
    if isinstance(fault, requests.Timeout):
        return "no answer in time; check the firewall, and whether https_proxy is needed"
    return "no connection; check the firewall, and whether https_proxy is needed"
