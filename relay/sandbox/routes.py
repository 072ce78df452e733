# SPDX-License-Identifier: MIT
"""The route table: which path is which endpoint of Entra ID, Graph or the control side. Knows no socket.

A new endpoint is one line here and one method there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote

from relay.sandbox.control import Control
from relay.sandbox.entra import Entra
from relay.sandbox.entra_errors import EntraError
from relay.sandbox.entra_errors import error_answer as entra_error_answer
from relay.sandbox.faults import Fault
from relay.sandbox.graph import Graph
from relay.sandbox.graph_errors import error_answer as graph_error_answer
from relay.sandbox.model import Answer, Request, html_answer
from relay.sandbox.uploads import UPLOAD_PATH

CONTROL = "control"
_ENTRA_KINDS = frozenset({"openid", "instance", "realm", "wsTrust", "token"})
_ENTRA_CODES = {429: 90055, 504: 90012}


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. pattern: path segments, `*` for any one. kind: its name in faults and counters.

    mailbox_at: which segment names a mailbox; -1 for none.
    """

    method: str
    pattern: tuple[str, ...]
    kind: str
    handle: Callable[[Request], Answer]
    mailbox_at: int = -1

    def matches(self, segments: tuple[str, ...]) -> bool:
        if len(segments) != len(self.pattern):
            return False
        return all(wanted in ("*", found) for wanted, found in zip(self.pattern, segments, strict=True))


def make_routes(entra: Entra, mail: Graph, control: Control | None) -> tuple[Route, ...]:
    """The table, most frequent first."""
    routes = (
        Route("POST", ("v1.0", "users", "*", "sendMail"), "sendMail", mail.send_mail, mailbox_at=2),
        Route("POST", ("v1.0", "me", "sendMail"), "sendMail", mail.send_mail),
        *_draft_routes(mail),
        Route("POST", ("*", "oauth2", "v2.0", "token"), "token", entra.token),
        Route("GET", ("msi", "token"), "identity", entra.managed_identity),
        Route("GET", ("common", "userrealm", "*"), "realm", entra.realm),
        Route("GET", ("*", "v2.0", ".well-known", "openid-configuration"), "openid", entra.openid),
        Route("GET", ("common", "discovery", "instance"), "instance", entra.instance),
        Route("POST", ("adfs", "services", "trust", "2005", "usernamemixed"), "wsTrust", entra.ws_trust),
    )
    if control is None:
        return routes
    return (
        *routes,
        Route("GET", ("_sandbox", "messages"), CONTROL, control.list_messages),
        Route("GET", ("_sandbox", "drafts"), CONTROL, lambda request: control.list_drafts(mail.store.drafts())),
        Route("GET", ("_sandbox", "stats"), CONTROL, control.show_stats),
        Route("POST", ("_sandbox", "faults"), CONTROL, control.add_faults),
        Route("POST", ("_sandbox", "reset"), CONTROL, control.reset),
        Route("POST", ("_sandbox", "release"), CONTROL, control.release),
        Route("POST", ("_sandbox", "revoke"), CONTROL, control.revoke),
    )


def _draft_routes(mail: Graph) -> tuple[Route, ...]:
    """Large mail: drafts, their attachments and upload sessions; and what was sent."""
    drafts, uploads = mail.drafts, mail.uploads
    messages = ("v1.0", "users", "*", "messages")
    draft = (*messages, "*")
    attachments = (*draft, "attachments")
    upload = (*UPLOAD_PATH, "*")
    sent = ("v1.0", "users", "*", "mailFolders", "sentitems", "messages")
    return (
        Route("PUT", upload, "upload", uploads.put),
        Route("GET", upload, "uploadState", uploads.state),
        Route("DELETE", upload, "cancelUpload", uploads.cancel),
        Route("POST", messages, "draft", drafts.create, mailbox_at=2),
        Route("POST", attachments, "attachment", drafts.attach, mailbox_at=2),
        Route("GET", attachments, "attachments", drafts.list_attachments, mailbox_at=2),
        Route("POST", (*attachments, "createUploadSession"), "uploadSession", uploads.create, mailbox_at=2),
        Route("POST", (*draft, "send"), "send", drafts.send, mailbox_at=2),
        Route("GET", draft, "draftState", drafts.show, mailbox_at=2),
        Route("DELETE", draft, "deleteDraft", drafts.delete, mailbox_at=2),
        Route("GET", messages, "search", drafts.search, mailbox_at=2),
        Route("GET", sent, "searchSent", drafts.search_sent, mailbox_at=2),
    )


def split_path(path: str) -> tuple[str, ...]:
    """The segments of a raw path, each decoded after the split: `%2F` belongs to a name (RFC 3986 §2.4)."""
    return tuple(unquote(segment, errors="replace") for segment in path.strip("/").split("/"))


def find_route(routes: tuple[Route, ...], request: Request) -> Route | None:
    """The endpoint for this method and path."""
    found = (item for item in routes if item.method == request.method and item.matches(request.segments))
    return next(found, None)


def no_route_answer(routes: tuple[Route, ...], request: Request, now: datetime) -> Answer:
    """405 where another method would do, else what Graph says of a path that it does not know."""
    if any(item.matches(request.segments) for item in routes):
        return graph_error_answer(request, now, 405, "BadRequest", "The HTTP method is not supported here.")
    if request.segments[0] == "v1.0":
        return graph_error_answer(request, now, 400, "BadRequest", "Resource not found for the segment.")
    return graph_error_answer(request, now, 404, "ResourceNotFound", "No such endpoint in the sandbox.")


def fault_answer(fault: Fault, kind: str, request: Request, now: datetime) -> Answer:
    """What a fault says in the service's place, in that service's own form."""
    if fault.body == "html":
        answer = html_answer(fault.status, "Service Unavailable")
    elif fault.body == "empty" or fault.status < 300:
        answer = Answer(fault.status)
    elif kind in _ENTRA_KINDS:
        code = int(fault.code) if fault.code.isdecimal() else _ENTRA_CODES.get(fault.status, 90033)
        answer = entra_error_answer(request, now, EntraError(code, status=fault.status))
    else:
        answer = graph_error_answer(request, now, fault.status, fault.code)
    return answer
