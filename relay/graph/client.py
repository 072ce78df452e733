# SPDX-License-Identifier: MIT
"""One request to Graph: phase timeouts, request ids, and every failure translated into graph/errors.py, here alone."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import requests
from requests.structures import CaseInsensitiveDict

from relay.credentials import Secret
from relay.graph.errors import GraphError, OutcomeUnknown, Unreachable, from_answer
from relay.graph.http import CONNECT_TIMEOUT_S

_LEAST_READ_TIMEOUT_S = 60.0
_LEAST_TIMEOUT_S = 0.001  # a deadline may have passed by now, and requests takes 0 for a mistake
_PIECE = 131_072  # octets; the timeout counts for each piece anew, so larger ones would ask for a faster line
_SLOWEST_UPLOAD_BYTES_S = 100_000  # a slow line gets a second more for each of these


class _Body:
    """Octets to send that know whether all of them went out: the line between not sent and perhaps sent."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.finished = False

    def __len__(self) -> int:
        return len(self._octets)

    def __iter__(self) -> Iterator[memoryview]:
        """Piece by piece; http.client sends each before it asks for the next."""
        view = memoryview(self._octets)
        for at in range(0, len(view), _PIECE):
            yield view[at : at + _PIECE]
        self.finished = True


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

    def send_mail(self, mailbox: str, octets: bytes, content_type: str, token: Secret, timeout_s: float) -> str:
        """POST /users/{mailbox}/sendMail; Graph's request-id when it answered 202. Raises GraphError.

        Source: Graph, "user: sendMail".
        """
        url = f"{self._url}/v1.0/users/{quote(mailbox, safe='@')}/sendMail"
        body = _Body(octets)
        request = self._request(url, body, content_type, token)
        longest_s = _LEAST_READ_TIMEOUT_S + len(octets) / _SLOWEST_UPLOAD_BYTES_S
        patience_s = max(min(timeout_s, longest_s), _LEAST_TIMEOUT_S)
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
            raise _no_answer(fault, body) from None
        request_id = response.headers.get("request-id", "")
        if response.status_code == 202:
            return request_id
        raise from_answer(response.status_code, answer, request_id, _retry_after_s(response.headers.get("Retry-After")))

    def _request(self, url: str, body: _Body, content_type: str, token: Secret) -> requests.PreparedRequest:
        """A POST, ready to be sent.

        Session.post() would quote the URL, merge settings and cookies, and guess at the body anew for each message: an
        eighth of all that a message costs.
        """
        request = requests.PreparedRequest()
        request.method, request.url = "POST", url
        request.body = body  # type: ignore[assignment]  # http.client takes an iterable of octets
        request.headers = CaseInsensitiveDict(self._session.headers)  # type: ignore[arg-type]  # str, all of them
        request.headers.update(
            {
                "Authorization": f"Bearer {token.reveal()}",
                "Content-Type": content_type,
                "Content-Length": str(len(body)),
                "client-request-id": str(uuid.uuid4()),
            }
        )
        return request


def _read(response: requests.Response) -> Any:
    """The decoded JSON of an answer, or None. The status decides, so a body that breaks off changes nothing."""
    try:
        return json.loads(response.content) if response.content else None
    except (requests.RequestException, OSError, ValueError, RecursionError):
        response.close()
        return None


def _no_answer(fault: Exception, body: _Body) -> GraphError:
    if body.finished:
        return OutcomeUnknown()
    if isinstance(fault, requests.exceptions.ProxyError):
        return Unreachable("the proxy refused or failed; check https_proxy and its user name and password")
    if isinstance(fault, requests.exceptions.SSLError):
        return Unreachable("Graph's certificate is not trusted; if a proxy inspects TLS, put its CA into ca_bundle")
    return Unreachable()


def _retry_after_s(value: str | None) -> float | None:
    """RFC 9110 §10.2.3: seconds or a date. None for anything else."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
