# SPDX-License-Identifier: MIT
"""Entra ID as the relay meets it: discovery, user realm, token endpoint. Knows no HTTP server and no mail.

Two grants: password (ROPC) and client_credentials, with a secret or an assertion; and the endpoint that gives a
machine in Azure its managed identity. Which `error` goes with which AADSTS number, and the body
around them, is in entra_errors.py. Sources: Microsoft's v2-oauth-ropc, v2-oauth2-client-creds-grant-flow;
Azure's overview-managed-identity ("REST endpoint reference").
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote_plus
from uuid import NAMESPACE_URL, uuid5

from relay.clock import Clock
from relay.sandbox.assertion import JWT_BEARER, is_signed
from relay.sandbox.entra_errors import EntraError, error_answer, special_code
from relay.sandbox.model import Answer, Request, SandboxSettings, json_answer
from relay.sandbox.tokens import Token, Tokens, object_id

PUBLIC_GRAPH = "https://graph.microsoft.com"
_OPENID_SCOPES = frozenset({"openid", "profile", "email", "offline_access"})
_FEDERATED = "@federated.example"
_FORM = "application/x-www-form-urlencoded"
_ID_TOKEN_LIFETIME_S = 3600
_CLOCK_SKEW_S = 300


def encode_part(content: object) -> str:
    """JSON in base64url without padding: one part of a JWT (RFC 7515 §2)."""
    octets = json.dumps(content, separators=(",", ":")).encode("ascii")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


_JWT_HEADER = encode_part({"typ": "JWT", "alg": "RS256", "kid": "sandbox"})


class Entra:
    """One tenant's sign-in service. url: where it, and Graph, are reached."""

    def __init__(self, settings: SandboxSettings, url: str, tokens: Tokens, clock: Clock) -> None:
        self._settings = settings
        self._url = url
        self._tokens = tokens
        self._clock = clock
        self._tenant_guid = str(uuid5(NAMESPACE_URL, "tenant:" + settings.tenant_id))
        self._grants: dict[str, Callable[[Request, str, dict[str, str]], Answer]] = {
            "password": self._password_grant,
            "client_credentials": self._client_credentials_grant,
        }

    def openid(self, request: Request) -> Answer:
        """GET /{tenant}/v2.0/.well-known/openid-configuration: what msal's Authority asks for first."""
        tenant = request.segments[0]
        if not self._knows_tenant(tenant):
            return error_answer(request, self._clock.now(), EntraError(90002, oauth_error="invalid_tenant"))
        endpoints = f"{self._url}/{tenant}/oauth2/v2.0"
        return json_answer(
            200,
            {
                "issuer": self._issuer(),
                "authorization_endpoint": f"{endpoints}/authorize",
                "token_endpoint": f"{endpoints}/token",
                "device_authorization_endpoint": f"{endpoints}/devicecode",
                "end_session_endpoint": f"{endpoints}/logout",
                "jwks_uri": f"{self._url}/{tenant}/discovery/v2.0/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                "response_types_supported": ["code", "id_token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": sorted(_OPENID_SCOPES),
                "tenant_region_scope": None,
            },
        )

    def instance(self, request: Request) -> Answer:
        """GET /common/discovery/instance: the authority asked about is a real one."""
        wanted = parse_qs(request.query).get("authorization_endpoint", [""])[0]
        tenant = wanted.removeprefix(self._url).strip("/").split("/")[0] or self._settings.tenant_id
        configuration = f"{self._url}/{tenant}/v2.0/.well-known/openid-configuration"
        metadata: list[Any] = []
        return json_answer(
            200,
            {"tenant_discovery_endpoint": configuration, "api-version": "1.1", "metadata": metadata},
        )

    def realm(self, request: Request) -> Answer:
        """GET /common/userrealm/{user}: who checks the password, Entra itself or a federated service."""
        user = request.segments[2]
        domain = user.rpartition("@")[2]
        common = {"ver": "1.0", "domain_name": domain, "cloud_instance_name": "microsoftonline.com"}
        if not user.lower().endswith(_FEDERATED):
            audience = {"cloud_audience_urn": "urn:federation:MicrosoftOnline"}
            return json_answer(200, {**common, "account_type": "Managed", **audience})
        # No federation_metadata_url: msal then takes the address below for a WS-Trust 2005 endpoint.
        federated = {
            "account_type": "Federated",
            "federation_protocol": "WSTrust",
            "federation_active_auth_url": f"{self._url}/adfs/services/trust/2005/usernamemixed",
            "cloud_audience_urn": "urn:federation:MicrosoftOnline",
        }
        return json_answer(200, {**common, **federated})

    def ws_trust(self, request: Request) -> Answer:
        """POST /adfs/services/trust/2005/usernamemixed: a federated login always fails here."""
        fault = (
            '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault>'
            "<s:Code><s:Value>s:Sender</s:Value><s:Subcode>"
            '<s:Value xmlns:a="http://schemas.xmlsoap.org/ws/2005/02/trust">a:FailedAuthentication</s:Value>'
            "</s:Subcode></s:Code>"
            '<s:Reason><s:Text xml:lang="en-US">The security token could not be authenticated.</s:Text></s:Reason>'
            "</s:Fault></s:Body></s:Envelope>"
        )
        return Answer(500, fault.encode("ascii"), (("Content-Type", "application/soap+xml; charset=utf-8"),))

    def token(self, request: Request) -> Answer:
        """POST /{tenant}/oauth2/v2.0/token: a token, or an error with its AADSTS number."""
        try:
            form = read_form(request)
            tenant = request.segments[0].lower()
            if not self._knows_tenant(tenant):
                raise EntraError(90002)
            grant = self._grants.get(form.get("grant_type", ""))
            if grant is None:
                raise EntraError(70003 if form.get("grant_type") else 900144)
            self._check_client(request, form)
            return grant(request, tenant, form)
        except EntraError as error:
            return error_answer(request, self._clock.now(), error)

    def _knows_tenant(self, tenant: str) -> bool:
        return tenant.lower() in (
            self._settings.tenant_id.lower(),
            self._tenant_guid,
            "organizations",
            "common",
            "consumers",
        )

    def _issuer(self) -> str:
        return f"{self._url}/{self._tenant_guid}/v2.0"

    def _check_client(self, request: Request, form: dict[str, str]) -> None:
        client_id, client_secret = read_client(request, form)
        if client_id.lower() != self._settings.client_id.lower():
            raise EntraError(700016 if client_id else 900144)
        if "client_assertion" in form:
            return self._check_assertion(request, form)
        if not client_secret:
            raise EntraError(7000218)
        if client_secret != self._settings.client_secret:
            raise EntraError(7000215)

    def _check_assertion(self, request: Request, form: dict[str, str]) -> None:
        certificate = self._settings.client_certificate
        endpoint = f"{self._url}/{request.segments[0]}/oauth2/v2.0/token"
        if form.get("client_assertion_type") != JWT_BEARER or "client_secret" in form:
            raise EntraError(900144)
        if not certificate or not is_signed(
            form["client_assertion"], certificate, endpoint, self._settings.client_id, self._clock.now()
        ):
            raise EntraError(700027)

    def managed_identity(self, request: Request) -> Answer:
        """GET /msi/token: the token of the machine's identity, as App Service gives it, with errors in its own form."""
        query = {name: values[0] for name, values in parse_qs(request.query).items()}
        expected = self._settings.identity_header
        if not expected or request.headers.get("x-identity-header") != expected:
            return json_answer(401, {"statusCode": 401, "message": "The identity header is missing or wrong."})
        resource = query.get("resource", "")
        if query.get("api-version") != "2019-08-01" or resource not in (self._url, PUBLIC_GRAPH):
            return json_answer(400, {"statusCode": 400, "message": "The resource or the api-version is not known."})
        if query.get("client_id", self._settings.client_id) != self._settings.client_id:
            return json_answer(400, {"statusCode": 400, "message": "No User Assigned Managed Identity found."})
        return json_answer(
            200,
            {
                "access_token": self._issue("", ""),
                "expires_on": str(int(self._clock.now().timestamp()) + self._settings.token_lifetime_s),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": self._settings.client_id,
            },
        )

    def _audience(self, scopes: list[str]) -> str:
        """The Graph whose /.default is asked for: this one, or the public one that most configs name."""
        for graph in (self._url, PUBLIC_GRAPH):
            if f"{graph}/.default" in scopes:
                return graph
        raise EntraError(70011)

    def _password_grant(self, request: Request, tenant: str, form: dict[str, str]) -> Answer:
        if tenant in ("common", "consumers"):
            raise EntraError(9001023)
        scopes = form.get("scope", "").split()
        audience = self._audience(scopes)
        if set(scopes) - _OPENID_SCOPES - {f"{audience}/.default"}:
            raise EntraError(70011)
        if "username" not in form or "password" not in form:
            raise EntraError(900144)
        user = form["username"]
        self._check_user(user, form["password"])
        token = self._issue(user, object_id(user))
        granted = [f"{audience}/{name}" for name in sorted(self._settings.permissions)]
        content: dict[str, Any] = {
            "token_type": "Bearer",
            "scope": " ".join(["profile", "openid", "email", *granted, f"{audience}/.default"]),
            "expires_in": self._settings.token_lifetime_s,
            "ext_expires_in": self._settings.token_lifetime_s,
            "access_token": token,
        }
        if "openid" in scopes:
            content["id_token"] = self._id_token(user)
        if form.get("client_info"):
            content["client_info"] = encode_part({"uid": object_id(user), "utid": self._tenant_guid})
        return json_answer(200, content, ("Cache-Control", "no-store, no-cache"), ("Pragma", "no-cache"))

    def _client_credentials_grant(self, request: Request, tenant: str, form: dict[str, str]) -> Answer:
        if tenant in ("common", "consumers", "organizations"):
            raise EntraError(50059)
        scopes = form.get("scope", "").split()
        self._audience(scopes)
        if len(scopes) != 1:
            raise EntraError(70011)
        content = {
            "token_type": "Bearer",
            "expires_in": self._settings.token_lifetime_s,
            "ext_expires_in": self._settings.token_lifetime_s,
            "access_token": self._issue("", ""),
        }
        return json_answer(200, content, ("Cache-Control", "no-store, no-cache"), ("Pragma", "no-cache"))

    def _check_user(self, user: str, password: str) -> None:
        code = special_code(user)
        if code:
            raise EntraError(code)
        if self._settings.users is not None:
            known = {name.casefold(): secret for name, secret in self._settings.users.items()}
            if user.casefold() not in known:
                raise EntraError(50034)
            if password and password != known[user.casefold()]:
                raise EntraError(50126)
        if not password:
            raise EntraError(50056)

    def _issue(self, user: str, user_id: str) -> str:
        """A new access token: looks like a JWT and is as long as one, but means only what the table says."""
        now = int(self._clock.now().timestamp())
        permissions = sorted(self._settings.permissions)
        claims = {
            "aud": "00000003-0000-0000-c000-000000000000",
            "iss": f"https://sts.windows.net/{self._tenant_guid}/",
            "iat": now,
            "exp": now + self._settings.token_lifetime_s,
            "appid": self._settings.client_id,
            "tid": self._tenant_guid,
            "oid": user_id,
            **({"scp": " ".join(permissions)} if user else {"roles": permissions}),  # one string, or a list
        }
        signature = base64.urlsafe_b64encode(secrets.token_bytes(256)).rstrip(b"=").decode("ascii")
        value = f"{_JWT_HEADER}.{encode_part(claims)}.{signature}"
        expires_at = self._clock.monotonic() + self._settings.token_lifetime_s
        self._tokens.add(value, Token(user, self._settings.permissions, expires_at, user_id))
        return value

    def _id_token(self, user: str) -> str:
        """An id_token as msal decodes it; msal 1.21 also compares iss, aud and exp, no msal the signature."""
        now = int(self._clock.now().timestamp())
        claims = {
            "aud": self._settings.client_id,
            "iss": self._issuer(),
            "iat": now,
            "nbf": now - _CLOCK_SKEW_S,
            "exp": now + _ID_TOKEN_LIFETIME_S,
            "name": user,
            "oid": object_id(user),
            "preferred_username": user,
            "sub": object_id(user),
            "tid": self._tenant_guid,
            "ver": "2.0",
        }
        return f"{_JWT_HEADER}.{encode_part(claims)}.c2FuZGJveA"


def read_form(request: Request) -> dict[str, str]:
    """The fields of a form body (RFC 6749, appendix B). A repeated field is an error (§3.2)."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != _FORM:
        raise EntraError(900144)
    try:
        fields = parse_qs(request.body.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise EntraError(9000411) from None
    if any(len(values) > 1 for values in fields.values()):
        raise EntraError(9000411)
    return {name: values[0] for name, values in fields.items()}


def read_client(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """(client_id, client_secret) from the Basic header, as msal sends it, or the form (RFC 6749 §2.3.1)."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        pair = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise EntraError(7000215) from None
    client_id, _, client_secret = pair.partition(":")
    return unquote_plus(client_id), unquote_plus(client_secret)


def requested_user(request: Request) -> str:
    """The login that a token request is for, so that a scripted fault can be for one user; empty if none."""
    try:
        return read_form(request).get("username", "")
    except EntraError:
        return ""
