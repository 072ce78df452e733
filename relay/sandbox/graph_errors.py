# SPDX-License-Identifier: MIT
"""How Graph refuses: the error body around a code, and endpoints whose refusals become answers. Knows no mail."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Protocol, TypeVar

from relay.clock import Clock
from relay.sandbox.model import Answer, Request, json_answer
from relay.sandbox.schema import GraphError

_STATUS_CODES = {
    400: "BadRequest",
    401: "InvalidAuthenticationToken",
    403: "ErrorAccessDenied",
    404: "ErrorInvalidUser",
    405: "BadRequest",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    429: "ApplicationThrottled",
    500: "ErrorInternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
    507: "ErrorQuotaExceeded",
}


def error_answer(request: Request, now: datetime, status: int, code: str = "", message: str = "") -> Answer:
    """Graph's error body. code: empty takes the usual one of that status."""
    error = {
        "code": code or _STATUS_CODES.get(status, "UnknownError"),
        "message": message or "The request was refused.",
        "innerError": {
            "date": f"{now:%Y-%m-%dT%H:%M:%S}",
            "request-id": request.request_id,
            "client-request-id": request.client_request_id,
        },
    }
    challenge = (("WWW-Authenticate", 'Bearer realm="", authorization_uri=""'),) if status == 401 else ()
    return json_answer(status, {"error": error}, *challenge)


class _HasClock(Protocol):
    @property
    def clock(self) -> Clock: ...


S = TypeVar("S", bound=_HasClock)


def endpoint(act: Callable[[S, Request], Answer]) -> Callable[[S, Request], Answer]:
    """A method that answers a request, with the GraphError that it raises turned into an answer."""

    @wraps(act)
    def answered(service: S, request: Request) -> Answer:
        try:
            return act(service, request)
        except GraphError as error:
            return error_answer(request, service.clock.now(), error.status, error.code, error.message)

    return answered
