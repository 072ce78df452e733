# SPDX-License-Identifier: MIT
"""The flows: what msal is asked, what its answers and faults become. Managed identity runs msal itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msal
import pytest
import requests

from relay.clientcert import BadCertificate, read_client_certificate
from relay.config import FLOWS, EntraConfig
from relay.credentials import Secret
from relay.graph.entra import AppFlow, ClientLoginFlow, Flow, ManagedIdentityFlow, PasswordFlow, flow_of
from relay.graph.errors import AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable
from relay.identity import APP_LOGIN, Credentials
from tests.support import pem_files
from tests.support.pem_files import PASS_PHRASE

TENANT, CLIENT = "11111111-2222-3333-4444-555555555555", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
CONFIG = EntraConfig(client_id=CLIENT, client_secrets=(Secret("S3CRET"),), tenant_id=TENANT)
HAS_MANAGED_IDENTITY = hasattr(msal, "ManagedIdentityClient")
needs_managed_identity = pytest.mark.skipif(not HAS_MANAGED_IDENTITY, reason="this msal knows no managed identities")


class FakeApplication:
    """Stands for msal's application: keeps what it was built with, and answers by script."""

    def __init__(self) -> None:
        self.built: list[dict[str, Any]] = []
        self.asked: list[tuple[Any, ...]] = []
        self.answer: Any = {"access_token": "T0KEN", "expires_in": 3600}

    def __call__(self, client_id: str, **options: Any) -> FakeApplication:
        self.built.append({"client_id": client_id, **options})
        return self

    def acquire_token_for_client(self, scopes: list[str]) -> Any:
        return self._answered("app", tuple(scopes))

    def acquire_token_by_username_password(self, username: str, password: str, scopes: list[str]) -> Any:
        return self._answered("password", username, password, tuple(scopes))

    def _answered(self, *asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> FakeApplication:
    fake = FakeApplication()
    monkeypatch.setattr(msal, "ConfidentialClientApplication", fake)
    return fake


def flow(config: EntraConfig = CONFIG, http_client: object = None) -> Flow:
    return flow_of(config, http_client, lambda _: nullcontext())


def config_of(name: str, **more: Any) -> EntraConfig:
    facts = {"flow": name, "client_id": CLIENT, "client_secrets": (Secret("S3CRET"),), "tenant_id": TENANT, **more}
    return EntraConfig(**facts)


def refusal(code: int, word: str = "invalid_client") -> dict[str, Any]:
    return {"error": word, "error_codes": [code], "error_description": f"AADSTS{code}: S3CRET"}


def fault_of(ask: Callable[[], object]) -> TokenError:
    with pytest.raises(TokenError) as caught:
        ask()
    assert "S3CRET" not in f"{caught.value}{caught.value.entra_code}"
    assert caught.value.__cause__ is None
    return caught.value


def test_each_flow_has_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msal, "ManagedIdentityClient", lambda *_, **__: None, raising=False)
    monkeypatch.setattr(msal, "UserAssignedManagedIdentity", lambda **_: None, raising=False)
    kinds = [type(flow(config_of(name))) for name in FLOWS]
    assert kinds == [PasswordFlow, AppFlow, ManagedIdentityFlow, ClientLoginFlow]


# Password


def test_password(application: FakeApplication) -> None:
    granted = flow().acquire(Credentials("a@example.com", Secret("Passw0rd")), 30)
    assert (granted.token.reveal(), granted.expires_in_s) == ("T0KEN", 3600)
    assert application.asked == [("password", "a@example.com", "Passw0rd", CONFIG.scopes)]
    assert "T0KEN" not in repr(granted)


# Client credentials


def test_client_credentials_with_a_secret(application: FakeApplication) -> None:
    app = flow(config_of("client_credentials"))
    for _ in range(2):
        assert app.acquire(APP_LOGIN, 30).token.reveal() == "T0KEN"
    assert application.asked == [("app", ("https://graph.microsoft.com/.default",))] * 2
    (built,) = application.built
    assert built["client_id"] == CLIENT
    assert built["client_credential"] == "S3CRET"
    assert built["authority"] == f"https://login.microsoftonline.com/{TENANT}"


# Two secrets


class FakeTenant:
    """msal's application, built for one secret after another: refuses those that it was told to refuse."""

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}  # AADSTS code by secret
        self.asked: list[str] = []
        self.answer: dict[str, Any] = {"access_token": "T0KEN", "expires_in": 3600}

    def __call__(self, client_id: str, *, client_credential: Any, **_: Any) -> FakeTenant._Application:
        return self._Application(self, client_credential)

    class _Application:
        def __init__(self, tenant: FakeTenant, secret: Any) -> None:
            self._tenant, self._secret = tenant, secret

        def acquire_token_for_client(self, scopes: list[str]) -> Any:
            self._tenant.asked.append(self._secret)
            code = self._tenant.refused.get(self._secret)
            return refusal(code) if code else self._tenant.answer

        def acquire_token_by_username_password(self, username: str, password: str, scopes: list[str]) -> Any:
            return self.acquire_token_for_client(scopes)


@pytest.fixture
def tenant(monkeypatch: pytest.MonkeyPatch) -> FakeTenant:
    fake = FakeTenant()
    monkeypatch.setattr(msal, "ConfidentialClientApplication", fake)
    return fake


TWO = (Secret("S3CRET-new"), Secret("S3CRET-old"))
NEW, OLD = (secret.reveal() for secret in TWO)
both_flows = pytest.mark.parametrize("name", ["password", "client_credentials"])


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Event, code and the words that say which."""
    found = [(r.message, r.__dict__["entra_code"], r.__dict__["reason"]) for r in caplog.records]
    assert "S3CRET" not in repr(found)
    return [(event, code, reason.partition(" client_secret")[0]) for event, code, reason in found]


@both_flows
@pytest.mark.parametrize("code", [7000215, 7000222])
def test_the_second_secret_is_tried_and_stays(
    tenant: FakeTenant, caplog: pytest.LogCaptureFixture, name: str, code: int
) -> None:
    tenant.refused[NEW] = code
    app = flow(config_of(name, client_secrets=TWO))
    for _ in range(2):
        assert app.acquire(Credentials("a", Secret("x")), 30).token.reveal() == "T0KEN"
    assert tenant.asked == [NEW, OLD, OLD]
    assert warnings_in(caplog) == [("client_secret_refused", f"AADSTS{code}", "the first")]


def test_the_second_secret_stays_until_it_is_refused_likewise(
    tenant: FakeTenant, caplog: pytest.LogCaptureFixture
) -> None:
    app = flow(config_of("client_credentials", client_secrets=TWO))
    for refused in ({NEW: 7000215}, {OLD: 7000222}, {}):
        tenant.refused = refused
        app.acquire(APP_LOGIN, 30)
    assert tenant.asked == [NEW, OLD, OLD, NEW, NEW]
    assert [which for _, _, which in warnings_in(caplog)] == ["the first", "the second"]


def test_both_tries_share_one_time(tenant: FakeTenant) -> None:
    guarded: list[float] = []

    def guard(seconds: float) -> AbstractContextManager[None]:
        guarded.append(seconds)
        return nullcontext()

    tenant.refused[NEW] = 7000215
    flow_of(config_of("client_credentials", client_secrets=TWO), None, guard).acquire(APP_LOGIN, 30)
    assert (tenant.asked, guarded) == ([NEW, OLD], [30])


@both_flows
def test_both_secrets_are_refused(tenant: FakeTenant, caplog: pytest.LogCaptureFixture, name: str) -> None:
    tenant.refused = {NEW: 7000215, OLD: 7000222}
    app = flow(config_of(name, client_secrets=TWO))
    fault = fault_of(lambda: app.acquire(APP_LOGIN, 30))
    assert (type(fault), fault.entra_code) == (AppMisconfigured, "AADSTS7000222")
    assert "both" in fault.advice
    assert tenant.asked == [NEW, OLD]
    assert warnings_in(caplog) == [], "the caller logs it"


@pytest.mark.parametrize("code", [7000218, 700016, 50126, 90002, 50196])
def test_what_is_no_fault_of_the_secret_asks_once(tenant: FakeTenant, code: int) -> None:
    tenant.refused = {NEW: code, OLD: code}
    fault_of(lambda: flow(config_of("password", client_secrets=TWO)).acquire(APP_LOGIN, 30))
    assert tenant.asked == [NEW]


def test_a_wrong_password_says_nothing_of_the_secret(tenant: FakeTenant, caplog: pytest.LogCaptureFixture) -> None:
    """Only a token shows that the second works; the device is told of its password, and not of the app."""
    tenant.refused = {NEW: 7000215, OLD: 50126}
    fault = fault_of(lambda: flow(config_of("password", client_secrets=TWO)).acquire(APP_LOGIN, 30))
    assert isinstance(fault, CredentialsRefused)
    assert warnings_in(caplog) == []


def test_one_secret_is_not_tried_twice(tenant: FakeTenant) -> None:
    tenant.refused = {"S3CRET": 7000215}
    assert "oauth2_config.client_secret" in fault_of(lambda: flow().acquire(APP_LOGIN, 30)).advice
    assert tenant.asked == ["S3CRET"]


# Certificates


@pytest.mark.parametrize("pass_phrase", ["", PASS_PHRASE], ids=["plain", "pass phrase"])
@pytest.mark.parametrize("more", [(), (Secret("x"),)], ids=["alone", "and another"])
def test_client_credentials_with_a_certificate(
    application: FakeApplication, tmp_path: Path, pass_phrase: str, more: tuple[Secret, ...]
) -> None:
    path = tmp_path / "app.pem"
    path.write_bytes(pem_files.usable(pass_phrase))
    secrets = (Secret(pass_phrase), *more)
    config = config_of("client_credentials", client_certificate=str(path), client_secrets=secrets)
    flow(config).acquire(APP_LOGIN, 30)
    credential = application.built[0]["client_credential"]
    assert set(credential) == {"private_key", "thumbprint", "public_certificate"}
    assert "ENCRYPTED" not in credential["private_key"]


@pytest.mark.parametrize("what", ["ec", "no_key", "gone"])
def test_a_certificate_that_went_bad_is_no_fault_of_the_tenant(
    application: FakeApplication, tmp_path: Path, what: str
) -> None:
    """It was good when the relay started, and was replaced or taken away since."""
    path = tmp_path / "app.pem"
    if what != "gone":
        path.write_bytes(pem_files.broken(what))
    fault = fault_of(lambda: flow(config_of("client_credentials", client_certificate=str(path))).acquire(APP_LOGIN, 30))
    assert isinstance(fault, AppMisconfigured)
    assert fault.advice.startswith("oauth2_config.client_certificate")
    assert application.built == []


@pytest.mark.parametrize("code", [53003, 50105, 7000222, 700016, 65001])
def test_a_refused_app_is_the_administrators_matter(application: FakeApplication, code: int) -> None:
    """Conditional access and assignment hold for apps too; no device's password is at fault."""
    application.answer = refusal(code)
    fault = fault_of(lambda: flow(config_of("client_credentials")).acquire(APP_LOGIN, 30))
    assert isinstance(fault, AppMisconfigured)
    assert fault.entra_code == f"AADSTS{code}"


def test_an_app_is_built_anew_behind_a_refusal(application: FakeApplication) -> None:
    """msal replays a 400 for a minute; what was mended is to work at once."""
    app = flow(config_of("client_credentials"))
    application.answer = refusal(7000222)
    fault_of(lambda: app.acquire(APP_LOGIN, 30))
    application.answer = {"access_token": "T0KEN", "expires_in": 3600}
    app.acquire(APP_LOGIN, 30)
    assert len(application.built) == 2


def test_a_proxys_page_is_no_unknown_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    """msal says the same of a page that is no JSON as of a tenant that is none, but for what it met."""

    def build(*_: object, **__: object) -> None:
        try:
            json.loads("<html>S3CRET")
        except ValueError:
            raise ValueError("Unable to get authority configuration: S3CRET")  # noqa: B904 - as msal does

    monkeypatch.setattr(msal, "ConfidentialClientApplication", build)
    fault = fault_of(lambda: flow(config_of("client_credentials")).acquire(APP_LOGIN, 30))
    assert isinstance(fault, TokenUnavailable)
    assert "proxy" in fault.advice


# The certificate


def test_whatever_the_order_in_the_file() -> None:
    key = pem_files.private(pem_files.rsa_key())
    own, other = (pem_files.certificate(one) for one in (pem_files.rsa_key(), pem_files.rsa_key(1)))
    first = read_client_certificate(key + own + other, "")
    assert read_client_certificate(other + b"comment\n" + own + key, "") == first
    assert re.fullmatch("[0-9a-f]{40}", first.thumbprint)
    assert first.chain.encode() == own + other
    assert "PRIVATE" not in repr(first)
    assert "CERTIFICATE" not in repr(first)


def test_an_old_form_of_the_key() -> None:
    pem = pem_files.private(pem_files.rsa_key(), form="TraditionalOpenSSL") + pem_files.certificate(pem_files.rsa_key())
    assert "BEGIN PRIVATE KEY" in read_client_certificate(pem, "").key
    pem = pem_files.private(pem_files.rsa_key(), "x", "TraditionalOpenSSL") + pem_files.certificate(pem_files.rsa_key())
    assert "BEGIN PRIVATE KEY" in read_client_certificate(pem, "x").key


def test_a_pass_phrase_that_is_not_needed_does_no_harm() -> None:
    """client_secret may still hold the secret that the certificate replaces."""
    assert read_client_certificate(pem_files.usable(), "an old secret")


@pytest.mark.parametrize(
    ("what", "pass_phrase", "words"),
    [
        ("no_certificate", "", "no certificate"),
        ("no_key", "", "no private key"),
        ("another_key", "", "belongs to its key"),
        ("ec", "", "not an RSA key"),
        ("pass_phrase", "", "put it into client_secret"),
        ("pass_phrase", "S3CRET", "does not open"),
        ("damaged", "", "damaged"),
        ("nothing", "", "no private key"),
    ],
)
def test_a_bad_certificate(what: str, pass_phrase: str, words: str) -> None:
    with pytest.raises(BadCertificate, match=words) as caught:
        read_client_certificate(pem_files.broken(what), pass_phrase)
    assert "S3CRET" not in str(caught.value)


# Login as tenant and client


def client_login(flow: Flow, user: str = f"{TENANT}@{CLIENT}", secret: str = "") -> str:
    return flow.acquire(Credentials(user, Secret(secret or "D3vice")), 30).token.reveal()


def test_client_login(application: FakeApplication) -> None:
    logins = flow(EntraConfig(flow="client_login"))
    assert client_login(logins) == "T0KEN"
    (built,) = application.built
    assert (built["client_id"], built["client_credential"]) == (CLIENT, "D3vice")
    assert built["authority"] == f"https://login.microsoftonline.com/{TENANT}"
    assert application.asked == [("app", ("https://graph.microsoft.com/.default",))]


def test_client_login_keeps_one_application_a_tenant_app_and_secret(application: FakeApplication) -> None:
    logins = flow(EntraConfig(flow="client_login"))
    for user, secret in [(TENANT, "a"), (TENANT, "a"), (CLIENT, "a"), (TENANT, "b"), (TENANT, "a")]:
        client_login(logins, f"{user}@{CLIENT}", secret)
    assert len(application.built) == 3


def test_client_logins_keep_no_more_applications_than_fit(application: FakeApplication) -> None:
    logins = flow(EntraConfig(flow="client_login"))
    for number in range(300):
        client_login(logins, secret=f"secret-{number}")
    client_login(logins, secret="secret-299")
    assert len(application.built) == 300
    client_login(logins, secret="secret-0")
    assert len(application.built) == 301, "the one that was used longest ago is forgotten"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (7000215, CredentialsRefused),
        (7000222, CredentialsRefused),
        (700016, CredentialsRefused),
        (7000112, CredentialsRefused),
        (90002, CredentialsRefused),
        (53003, CredentialsRefused),
        (65001, AppMisconfigured),
        (650056, AppMisconfigured),
        (70011, AppMisconfigured),
        (90038, AppMisconfigured),
    ],
)
def test_client_login_is_the_devices_own_as_far_as_it_said_it(
    application: FakeApplication, code: int, kind: type[TokenError]
) -> None:
    """Tenant, app and secret; consent, scopes and the cloud are the administrator's (contract §6)."""
    application.answer = refusal(code)
    fault = fault_of(lambda: client_login(flow(EntraConfig(flow="client_login"))))
    assert type(fault) is kind
    assert fault.entra_code == f"AADSTS{code}"
    assert kind is AppMisconfigured or "oauth2_config" not in fault.advice, "no key of ours would mend it"


def test_client_login_of_a_tenant_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object, **__: object) -> None:
        raise ValueError("Unable to get authority configuration: S3CRET")

    monkeypatch.setattr(msal, "ConfidentialClientApplication", build)
    fault = fault_of(lambda: client_login(flow(EntraConfig(flow="client_login"))))
    assert isinstance(fault, CredentialsRefused)
    assert "tenant" in fault.advice


def test_client_login_when_entra_is_out_of_reach(application: FakeApplication) -> None:
    application.answer = requests.ConnectionError("S3CRET")
    fault = fault_of(lambda: client_login(flow(EntraConfig(flow="client_login"))))
    assert isinstance(fault, TokenUnavailable)


def test_a_login_that_is_none_asks_nobody(application: FakeApplication) -> None:
    fault = fault_of(lambda: client_login(flow(EntraConfig(flow="client_login")), "scanner@example.com"))
    assert isinstance(fault, CredentialsRefused)
    assert application.built == []


# Managed identity


class FakeEndpoint:
    """The HTTP client that msal is given: one scripted answer, and what was asked."""

    def __init__(self, status: int = 200, body: object = None, fault: Exception | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self._fault = fault
        self._answer = requests.Response()
        self._answer.status_code = status
        self._answer._content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def get(self, url: str, params: dict[str, str], headers: dict[str, str], **_: object) -> requests.Response:
        self.asked.append((url, params, headers))
        if self._fault is not None:
            raise self._fault
        return self._answer

    def close(self) -> None:
        pass


IMDS = {"access_token": "T0KEN", "expires_in": "86000", "expires_on": "1", "resource": "x", "token_type": "Bearer"}
APP_SERVICE = {"access_token": "T0KEN", "expires_on": "4102444800", "resource": "x", "token_type": "Bearer"}


@pytest.fixture
def _on_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual machine: none of the variables that say otherwise."""
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MSI_ENDPOINT", "MSI_SECRET", "AZURE_POD_IDENTITY_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)


def identity(endpoint: FakeEndpoint, client_id: str = "") -> Flow:
    return flow(EntraConfig(flow="managed_identity", client_id=client_id), endpoint)


@needs_managed_identity
@pytest.mark.usefixtures("_on_a_machine")
@pytest.mark.parametrize("client_id", ["", CLIENT], ids=["system", "user"])
def test_managed_identity_of_a_machine(client_id: str) -> None:
    endpoint = FakeEndpoint(body=IMDS)
    granted = identity(endpoint, client_id).acquire(APP_LOGIN, 30)
    assert (granted.token.reveal(), granted.expires_in_s) == ("T0KEN", 86000)
    ((url, params, headers),) = endpoint.asked
    assert url == "http://169.254.169.254/metadata/identity/oauth2/token"
    assert params["resource"] == "https://graph.microsoft.com"
    assert params.get("client_id", "") == client_id
    assert headers["Metadata"] == "true"


@needs_managed_identity
@pytest.mark.usefixtures("_on_a_machine")
def test_managed_identity_in_app_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:41741/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "S3CRET")
    endpoint = FakeEndpoint(body=APP_SERVICE)
    assert identity(endpoint, CLIENT).acquire(APP_LOGIN, 30).token.reveal() == "T0KEN"
    ((url, params, headers),) = endpoint.asked
    assert (url, params["client_id"]) == ("http://127.0.0.1:41741/msi/token", CLIENT)
    assert headers["X-IDENTITY-HEADER"] == "S3CRET"


@needs_managed_identity
@pytest.mark.usefixtures("_on_a_machine")
def test_managed_identity_is_asked_each_time() -> None:
    """tokens.py is the cache; one in msal would hand out a revoked token again."""
    endpoint = FakeEndpoint(body=IMDS)
    machine = identity(endpoint)
    for _ in range(2):
        machine.acquire(APP_LOGIN, 30)
    assert len(endpoint.asked) == 2


@needs_managed_identity
@pytest.mark.usefixtures("_on_a_machine")
@pytest.mark.parametrize(
    ("endpoint", "kind", "words"),
    [
        (
            FakeEndpoint(400, {"error": "invalid_request", "error_description": "Identity not found: S3CRET"}),
            AppMisconfigured,
            "assign one",
        ),
        (FakeEndpoint(400, {"error": "invalid_scope"}), AppMisconfigured, "assign one"),
        (FakeEndpoint(429, {"error": "too_many_requests"}), TokenUnavailable, "identity endpoint"),
        (FakeEndpoint(500, {"error": "unknown"}), TokenUnavailable, "identity endpoint"),
        (FakeEndpoint(502, b"<html>S3CRET"), TokenUnavailable, "identity endpoint"),
        (FakeEndpoint(200, []), TokenUnavailable, "identity endpoint"),
        (FakeEndpoint(fault=requests.ConnectTimeout("S3CRET")), TokenUnavailable, "Azure Arc only"),
        (FakeEndpoint(fault=OSError("S3CRET")), TokenUnavailable, "Azure Arc only"),
    ],
)
def test_managed_identity_faults(endpoint: FakeEndpoint, kind: type[TokenError], words: str) -> None:
    fault = fault_of(lambda: identity(endpoint).acquire(APP_LOGIN, 30))
    assert type(fault) is kind
    assert words in fault.advice


@needs_managed_identity
@pytest.mark.usefixtures("_on_a_machine")
def test_app_service_without_this_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:41741/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "S3CRET")
    endpoint = FakeEndpoint(400, {"statusCode": 400, "message": "No User Assigned identity found: S3CRET"})
    assert isinstance(fault_of(lambda: identity(endpoint, CLIENT).acquire(APP_LOGIN, 30)), AppMisconfigured)


def test_an_msal_without_managed_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12 has 1.21; the start says so (cli.py turns it into exit code 2)."""
    monkeypatch.delattr(msal, "ManagedIdentityClient", raising=False)
    with pytest.raises(AppMisconfigured, match=r"needs the Python package msal in version 1\.29"):
        flow(EntraConfig(flow="managed_identity"))
