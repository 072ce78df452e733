# SPDX-License-Identifier: MIT
"""Entra ID's errors: which AADSTS number goes with which OAuth `error` and HTTP status; the body around them.

Source: Microsoft's reference-error-codes; the statuses of client and user errors as msal's throttling code
assumes them. A number that no group names is invalid_grant, the `error` that says least.
"""

from __future__ import annotations

import re
from datetime import datetime
from uuid import uuid4

from relay.sandbox.model import Answer, Request, json_answer

_GROUPS: tuple[tuple[str, int, dict[int, str]], ...] = (
    (
        "invalid_grant",
        400,
        {
            50034: "The user account does not exist in the directory.",
            50053: "The account is locked, too many sign-ins with an incorrect user ID or password.",
            50055: "The password is expired.",
            50056: "Invalid or null password: password does not exist in the directory for this user.",
            50057: "The user account is disabled.",
            50064: "Credential validation failed.",
            50105: "The signed in user is not assigned to a role for the application.",
            50126: "Error validating credentials due to invalid username or password.",
            50128: "Invalid domain name - No tenant-identifying information found in the request.",
            50144: "The user's Active Directory password has expired.",
            50196: "The server terminated an operation because it encountered a client request loop.",
            65001: "The user or administrator has not consented to use the application.",
            80001: "Unable to connect to Active Directory.",
            80002: "The Active Directory password validation request timed out.",
            80005: "An unknown error occurred while processing the response from the Authentication Agent.",
            80014: "Validation request responded after maximum time elapsed.",
        },
    ),
    (
        "interaction_required",
        400,
        {
            50058: "A silent sign-in request was sent but no user is signed in.",
            50072: "Due to a configuration change, you must enroll in multi-factor authentication.",
            50074: "Strong Authentication is required.",
            50076: "Due to a configuration change, you must use multi-factor authentication.",
            50078: "Presented multi-factor authentication has expired due to configured policies.",
            50079: "Due to a configuration change, you must enroll in multi-factor authentication.",
            50131: "Conditional access policy requires a compliant device or location; access blocked.",
            50158: "External security challenge not satisfied.",
            53000: "Device is not in required device state: compliant.",
            53001: "Device is not in required device state: domain_joined.",
            53002: "The app used is not an approved app for Conditional Access.",
            53003: "Access has been blocked by Conditional Access policies.",
            53011: "User blocked due to risk on home tenant.",
            530032: "Access blocked by a security policy that requires an action of an administrator.",
            530034: "A delegated administrator was blocked from accessing the tenant due to account risk.",
            530035: "Access has been blocked by security defaults.",
        },
    ),
    (
        "invalid_client",
        401,
        {
            650056: "Misconfigured application.",
            700025: "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
            700027: "Client assertion failed signature validation.",
            7000215: "Invalid client secret provided. Send the secret's value, not the secret's ID.",
            7000218: "The request body must contain 'client_assertion' or 'client_secret'.",
            7000222: "The provided client secret keys are expired. Create new keys for your app.",
        },
    ),
    (
        "unauthorized_client",
        400,
        {
            700016: "Application was not found in the directory.",
            7000112: "Application is disabled.",
        },
    ),
    ("invalid_scope", 400, {70011: "The provided value for the input parameter 'scope' is not valid."}),
    ("invalid_resource", 400, {650057: "Invalid resource: not listed in the requested permissions."}),
    ("unsupported_grant_type", 400, {70003: "The app requested an unsupported grant type."}),
    (
        "invalid_request",
        400,
        {
            28002: "Provided value for the input parameter scope isn't valid.",
            50059: "No tenant-identifying information found in the request or the credentials.",
            50194: "Application is not configured as a multi-tenant application.",
            65005: "The required resource access list does not contain applications discoverable here.",
            90002: "Tenant not found. Check to make sure you have the correct tenant ID.",
            90038: "Tenant request is redirected to another national cloud.",
            900144: "The request body must contain the parameters of its grant, as a form.",
            9000411: "The request is not properly formatted: a parameter is duplicated or unreadable.",
            9001023: "The grant type is not supported over the /common or /consumers endpoints.",
        },
    ),
    (
        "temporarily_unavailable",
        503,
        {
            40010: "The service is temporarily unavailable: an external provider did not answer.",
            50033: "A transient error has occurred. Please try again.",
            50087: "A transient error has occurred during sign-out. Please try again.",
            50166: "Request to external OIDC endpoint failed.",
            90006: "External server returned a retryable error.",
            90012: "The request has timed out.",
            90024: "The request budget is exceeded. Please try again.",
            90033: "A transient error has occurred. Please try again.",
            90055: "There have been too many requests for the tenant. Please try again later.",
            90090: "A transient failure has occurred during sign-in. Please try again.",
        },
    ),
)
ERRORS = {code: (error, status, text) for error, status, group in _GROUPS for code, text in group.items()}
_UNLISTED = ("invalid_grant", 400, "The request was refused.")
_SPECIAL_USER = re.compile(r"aadsts([0-9]{1,9})@", re.IGNORECASE)


class EntraError(Exception):
    """A refusal with its AADSTS number. status and oauth_error: other than the usual ones of that number."""

    def __init__(self, code: int, *, status: int = 0, oauth_error: str = "") -> None:
        super().__init__(f"AADSTS{code}")
        error, usual_status, self.text = ERRORS.get(code, _UNLISTED)
        self.code = code
        self.oauth_error = oauth_error or error
        self.status = status or usual_status


def special_code(user: str) -> int:
    """The AADSTS number that a login such as `aadsts50076@example.com` asks for; 0 for an ordinary one."""
    match = _SPECIAL_USER.match(user)
    return int(match[1]) if match else 0


def error_answer(request: Request, now: datetime, error: EntraError) -> Answer:
    """Entra's error body. The numbers in error_codes are what a client may act on; the text is for people."""
    trace_id = request.request_id or str(uuid4())
    correlation_id = request.client_request_id or str(uuid4())
    timestamp = f"{now:%Y-%m-%d %H:%M:%SZ}"
    marks = f"Trace ID: {trace_id} Correlation ID: {correlation_id} Timestamp: {timestamp}"
    return json_answer(
        error.status,
        {
            "error": error.oauth_error,
            "error_description": f"AADSTS{error.code}: {error.text} {marks}",
            "error_codes": [error.code],
            "timestamp": timestamp,
            "trace_id": trace_id,
            "correlation_id": correlation_id,
            "error_uri": f"https://login.microsoftonline.com/error?code={error.code}",
        },
    )
