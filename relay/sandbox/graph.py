# SPDX-License-Identifier: MIT
"""The mail part of Graph as a whole: sendMail here, drafts and upload sessions in modules of their own.

Knows no HTTP server. What a message must be like is in rules.py.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.clock import Clock
from relay.sandbox.access import Access
from relay.sandbox.capture import Captured, Origin
from relay.sandbox.drafts import Drafts
from relay.sandbox.graph_errors import endpoint
from relay.sandbox.mailstore import MailStore
from relay.sandbox.model import Answer, Request, SandboxSettings
from relay.sandbox.rules import MAX_BODY, media_type, read_json_form, read_mime_form
from relay.sandbox.tokens import Tokens
from relay.sandbox.uploads import UPLOAD_PATH, Uploads

__all__ = ["MAX_BODY", "Graph"]


class Graph:
    """The mail part of one tenant's Graph. capture: called with each message that is answered 202."""

    def __init__(
        self, settings: SandboxSettings, tokens: Tokens, clock: Clock, capture: Callable[[Captured], None]
    ) -> None:
        self.clock = clock
        self.store = MailStore()
        self._access = Access(settings, tokens, clock)
        self._capture = capture
        self.drafts = Drafts(self._access, self.store, clock, capture)
        self.uploads = Uploads(self._access, self.store, clock)

    @endpoint
    def send_mail(self, request: Request) -> Answer:
        """POST /v1.0/users/{mailbox}/sendMail or /v1.0/me/sendMail."""
        token = self._access.authenticated(request)
        mailbox = self._access.mailbox(request, token, "Mail.Send")
        origin = Origin(
            mailbox=mailbox,
            user=token.user,
            headers=request.headers,
            received_at=self.clock.now(),
            size=len(request.body),
        )
        read = read_mime_form if media_type(request) == "text/plain" else read_json_form
        captured = read(request.body, origin)
        if captured.save_to_sent:
            self.store.keep_sent(captured)
        self._capture(captured)
        return Answer(202)

    def user_of(self, request: Request) -> str:
        """Whose request it is, so that a scripted fault can be for one user: by its token, or by its upload URL."""
        if request.segments[: len(UPLOAD_PATH)] == UPLOAD_PATH:
            return self.uploads.owner(request)
        return self._access.token_user(request)
