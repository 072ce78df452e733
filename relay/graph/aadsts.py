# SPDX-License-Identifier: MIT
"""Entra ID's error codes → what kind of fault it is and one sentence of advice. A table, and its look-up.

Source: Microsoft, "Microsoft Entra authentication and authorization error codes". Microsoft may change the numbers, so
an unknown code falls back on the OAuth error word (RFC 6749 §5.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from relay.graph.errors import AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable

_MFA = (
    "Entra ID demands multi-factor authentication; flow password cannot answer it: exclude the account by conditional "
    "access, or use an application flow"
)
_CONDITIONAL_ACCESS = (
    "a conditional access policy, a risk level or the security defaults block this sign-in; exclude the account or the app, "
    "or use an application flow"
)
_SIGN_IN = "Entra ID could not complete the sign-in; try again, and look at the sign-in log if it lasts"
_TENANT = "the tenant or cloud is wrong; check oauth2_config.tenant_id and authority"
_CONSENT = "consent is missing; grant admin consent for Mail.Send in the app registration"
_RESOURCE = "the tenant does not know what the token is for; check oauth2_config.scopes and cloud"

_ADVICE: dict[int, tuple[type[TokenError], str]] = {
    50126: (CredentialsRefused, "user name or password is wrong"),
    50034: (CredentialsRefused, "the account does not exist in this tenant; check the user name and oauth2_config.tenant_id"),
    50056: (CredentialsRefused, "the account has no password that Entra ID can check (federated or passwordless)"),
    50064: (CredentialsRefused, "Entra ID could not validate the credentials; check the user name and password"),
    50055: (CredentialsRefused, "the password has expired; set a new one, or exempt the account from expiry"),
    50057: (CredentialsRefused, "the account is disabled; enable it in Entra ID"),
    50105: (CredentialsRefused, "the user is not assigned to the app; assign it, or switch assignment required off"),
    50144: (CredentialsRefused, "the Active Directory password has expired; set a new one"),
    50072: (CredentialsRefused, _MFA),
    50074: (CredentialsRefused, _MFA),
    50076: (CredentialsRefused, _MFA),
    50078: (CredentialsRefused, _MFA),
    50079: (CredentialsRefused, _MFA),
    50158: (CredentialsRefused, _MFA),
    53000: (CredentialsRefused, _CONDITIONAL_ACCESS),
    53001: (CredentialsRefused, _CONDITIONAL_ACCESS),
    53002: (CredentialsRefused, _CONDITIONAL_ACCESS),
    53003: (CredentialsRefused, _CONDITIONAL_ACCESS),
    53011: (CredentialsRefused, _CONDITIONAL_ACCESS),
    50131: (CredentialsRefused, _CONDITIONAL_ACCESS),
    530032: (CredentialsRefused, _CONDITIONAL_ACCESS),
    530034: (CredentialsRefused, _CONDITIONAL_ACCESS),
    530035: (CredentialsRefused, _CONDITIONAL_ACCESS),
    50053: (TokenUnavailable, "the account is locked for a while after too many wrong passwords, or the address is blocked; "
                              "find the device with the old password"),
    50196: (TokenUnavailable, "Entra ID saw the same request too often and pauses it; find the device that logs in in a loop"),
    65001: (AppMisconfigured, _CONSENT),
    65004: (AppMisconfigured, _CONSENT),
    90008: (AppMisconfigured, _CONSENT),
    90094: (AppMisconfigured, _CONSENT),
    65005: (AppMisconfigured, "the app does not list the permission asked for; add Mail.Send and grant admin consent"),
    650056: (AppMisconfigured, "the app does not list any permission for Graph; add Mail.Send and grant admin consent"),
    650057: (AppMisconfigured, "the app does not list the resource asked for; check oauth2_config.scopes and the permissions"),
    500011: (AppMisconfigured, _RESOURCE),
    650052: (AppMisconfigured, _RESOURCE),
    700016: (AppMisconfigured, "the app was not found in this tenant; check oauth2_config.client_id and tenant_id"),
    7000112: (AppMisconfigured, "the app is disabled; enable it in Entra ID"),
    7000215: (AppMisconfigured, "the client secret is wrong; oauth2_config.client_secret wants the secret's value, not its ID"),
    7000218: (AppMisconfigured, "the client secret is missing; set oauth2_config.client_secret"),
    7000222: (AppMisconfigured, "the client secret has expired; make a new one and put it into oauth2_config.client_secret"),
    700025: (AppMisconfigured, "the app is a public client and must not send a secret; register a web (confidential) client"),
    700027: (AppMisconfigured, "the client certificate was refused; upload it to the app registration"),
    70011: (AppMisconfigured, "the scope is not valid; check oauth2_config.scopes"),
    28002: (AppMisconfigured, "the scope is not valid for this resource; check oauth2_config.scopes"),
    90002: (AppMisconfigured, "the tenant was not found; check oauth2_config.tenant_id"),
    50059: (AppMisconfigured, _TENANT),
    50128: (AppMisconfigured, _TENANT),
    50194: (AppMisconfigured, "the app is not multi-tenant; put your own tenant's ID into oauth2_config.tenant_id"),
    9001023: (AppMisconfigured, "flow password needs a tenant of its own; oauth2_config.tenant_id must not be common or consumers"),
    90038: (AppMisconfigured, "the tenant lives in another cloud; set cloud, or authority and graph_url"),
}  # fmt: skip

# Pass-through agents out of reach, throttled tenants and the like: nothing to mend here, later it works again.
_PASSING = (
    40010, 50000, 50033, 50058, 50087, 50166, 80001, 80002, 80005, 80007, 80010, 80013, 80014, 90006, 90012, 90024, 90033,
    90055, 90090,
)  # fmt: skip

_BY_WORD: dict[str, tuple[type[TokenError], str]] = {
    "invalid_client": (
        AppMisconfigured,
        "Entra ID refused the app's own credentials; check client_id and client_secret",
    ),
    "unauthorized_client": (AppMisconfigured, "the app may not use this flow; check its registration"),
    "invalid_scope": (AppMisconfigured, "the scope is not valid; check oauth2_config.scopes"),
    "invalid_resource": (AppMisconfigured, _RESOURCE),
    "invalid_request": (
        AppMisconfigured,
        "Entra ID did not take the request; check oauth2_config.tenant_id, client_id and scopes",
    ),
    "unsupported_grant_type": (AppMisconfigured, "the tenant or app does not take this flow; check oauth2_config.flow"),
    "consent_required": (AppMisconfigured, _CONSENT),
    "interaction_required": (CredentialsRefused, _MFA),
    "invalid_grant": (CredentialsRefused, "Entra ID refused the user name and password"),
}


# The secret that was sent is none of the app's, or has expired: another one may work.
SECRET_REFUSED = ("AADSTS7000215", "AADSTS7000222")

_NUMBER = re.compile(r"\bAADSTS([0-9]{4,9})\b")
_WORD = re.compile(r"[A-Za-z_]{1,40}")


def token_error(answer: Mapping[str, Any]) -> TokenError:
    """The error that an OAuth error answer stands for. Of its text only the number is used, and nothing is shown."""
    codes = _codes(answer)
    for code in codes:
        if code in _ADVICE:
            kind, advice = _ADVICE[code]
            return kind(advice, f"AADSTS{code}")
        if code in _PASSING:
            return TokenUnavailable(_SIGN_IN, f"AADSTS{code}")
    given = (answer.get("suberror"), answer.get("error"))
    words = [word for word in given if isinstance(word, str) and _WORD.fullmatch(word)]
    shown = f"AADSTS{codes[0]}" if codes else "".join(words[-1:])
    for word in words:  # suberror says more of an invalid_grant, such as consent_required
        if word in _BY_WORD:
            kind, advice = _BY_WORD[word]
            return kind(advice, shown)
    return TokenUnavailable(_SIGN_IN, shown)


def _codes(answer: Mapping[str, Any]) -> list[int]:
    """Those of `error_codes`, then those in `error_description`: proxies and older endpoints leave the list out."""
    listed = answer.get("error_codes")
    found = [str(code) for code in listed] if isinstance(listed, list) else []
    codes = [int(code) for code in found if len(code) < 10 and code.isascii() and code.isdigit()]
    return codes + [int(number) for number in _NUMBER.findall(str(answer.get("error_description") or ""))]
