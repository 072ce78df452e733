# SPDX-License-Identifier: MIT
"""One request to Graph: phase timeouts, request ids, and every failure translated into graph/errors.py, here alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import requests

from relay.credentials import Secret
from relay.graph.body import Body, Content
from relay.graph.errors import GraphError, OutcomeUnknown, StepUnclear, Unreachable, from_answer, harmless
from relay.graph.http import CONNECT_TIMEOUT_S, retry_after
from relay.identity import new_uuid

_LEAST_READ_TIMEOUT_S = 60.0
_LEAST_TIMEOUT_S = 0.001  # a deadline may have passed by now, and requests takes 0 for a mistake
_SLOWEST_UPLOAD_BYTES_S = 100_000  # a slow line gets a second more for each of these


class Bearer(NamedTuple):
    """By which right a request is made, and how long it may take. token: None where the URL itself is the right."""

    token: Secret | None
    timeout_s: float


class Answer(NamedTuple):
    """An answer that was asked for. content: the decoded JSON, None for none."""

    status: int
    content: Any
    request_id: str


class GraphClient:
    """Graph at one address, through one pooled Session."""

    def __init__(
        self,
        session: requests.Session,
        url: str,
        guard: Callable[[float], AbstractContextManager[Any]],
    ) -> None:
        """guard: bounds a call as a whole, raising TimeoutError, since HTTP timeouts count for each read anew."""
        self._session = session
        self._url = url
        self._guard = guard

    def send_mail(
        self, mailbox: str, content: bytes | Content, content_type: str, token: Secret, timeout_s: float
    ) -> str:
        """POST /users/{mailbox}/sendMail; Graph's request-id when it answered 202. Raises GraphError.

        Source: Graph, "user: sendMail".
        """
        return self.ask(
            "POST",
            self.url(mailbox, "sendMail"),
            Bearer(token, timeout_s),
            content,
            headers={"Content-Type": content_type},
            wanted=(202,),
            sends=True,
        ).request_id

    def url(self, mailbox: str, *path: str, query: Mapping[str, str] | None = None) -> str:
        """An address below /users/{mailbox}; no segment of the path can become two."""
        segments = "/".join([_quoted(segment) for segment in (mailbox, *path)])
        return f"{self._url}/v1.0/users/{segments}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")

    def ask(
        self,
        method: str,
        url: str,
        access: Bearer,
        content: bytes | Content = b"",
        *,
        headers: Mapping[str, str] | None = None,
        wanted: tuple[int, ...],
        sends: bool = False,
    ) -> Answer:
        """The answer with one of the statuses that are wanted. Raises GraphError for any other, and for none.

        sends: a message may have gone where the outcome stays unknown; else nothing can have, whatever happened.
        """
        body = Body(content)
        size = len(body)
        request = self._request(method, url, body, size, headers or {}, access.token)
        patience_s = _patience_s(access.timeout_s, size)
        try:
            with self._guard(patience_s):
                response = self._session.send(
                    request,
                    timeout=(min(CONNECT_TIMEOUT_S, patience_s), patience_s),
                    allow_redirects=False,
                    stream=True,
                )
                answer = _read(response)
        except (requests.RequestException, OSError, ValueError) as fault:
            # ValueError: http.client quotes a header field that it does not take, and the token stands in one.
            raise _no_answer(fault, body, sends) from None
        request_id = response.headers.get("request-id", "")
        if response.status_code in wanted:
            return Answer(response.status_code, answer, request_id)
        retry_after_s = retry_after(response.headers.get("Retry-After"))
        failure = from_answer(response.status_code, answer, request_id, retry_after_s)
        raise failure if sends else harmless(failure)

    def _request(
        self, method: str, url: str, body: Body, size: int, headers: Mapping[str, str], token: Secret | None
    ) -> requests.PreparedRequest:
        """A request that is ready to be sent, to a URL that is quoted already.

        Session.request() would quote the URL, merge settings and cookies, and guess at the body anew for each message:
        an eighth of all that a message costs.
        """
        request = requests.PreparedRequest()
        request.method, request.url = method, url
        fields = {**self._session.headers, **headers, "client-request-id": new_uuid()}
        if token is not None:
            fields["Authorization"] = f"Bearer {token.reveal()}"
        if size:
            request.body = body  # type: ignore[assignment]  # http.client takes an iterable of octets
        if size or method == "POST":
            fields["Content-Length"] = str(size)
        request.headers = fields  # type: ignore[assignment]  # nobody looks one up
        return request


@lru_cache(maxsize=1024)
def _quoted(segment: str) -> str:
    return quote(segment, safe="@")


def _patience_s(timeout_s: float, octets: int) -> float:
    return max(min(timeout_s, _LEAST_READ_TIMEOUT_S + octets / _SLOWEST_UPLOAD_BYTES_S), _LEAST_TIMEOUT_S)


def _read(response: requests.Response) -> Any:
    """The decoded JSON of an answer, or None. The status decides, so a body that breaks off changes nothing."""
    try:
        return json.loads(response.content) if response.content else None
    except (requests.RequestException, OSError, ValueError, RecursionError):
        response.close()
        return None


def _no_answer(fault: Exception, body: Body, sends: bool) -> GraphError:
    if body.finished and sends:
        return OutcomeUnknown()
    if body.finished and len(body):
        return StepUnclear()
    if isinstance(fault, requests.exceptions.ProxyError):
        return Unreachable("the proxy refused or failed; check https_proxy and its user name and password")
    if isinstance(fault, requests.exceptions.SSLError):
        return Unreachable("Graph's certificate is not trusted; if a proxy inspects TLS, put its CA into ca_bundle")
    return Unreachable()
