# SPDX-License-Identifier: MIT
"""Entra ID's codes: each in the class that decides between 535 and 454, with advice; nothing raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.graph.aadsts import token_error
from relay.graph.errors import AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable

# 535: the device's own credentials, or an account that needs MFA or conditional access (contract §6)
CREDENTIALS = """
    50126 50034 50056 50064 50055 50057 50105 50144
    50072 50074 50076 50078 50079 50158
    53000 53001 53002 53003 53011 50131 530032 530034 530035
"""
# 454: passes by itself
PASSING = """
    50053 50196 50058
    50033 50087 50166 90006 90012 90024 90033 90055 90090 80001 80002 80005 80014 40010
"""
# 454, and an administrator has to act
APP = """
    65001 65005 650056 650057
    700016 7000112 7000215 7000218 7000222 700025 700027 70011 28002
    90002 50059 50128 50194 9001023 90038
"""
CLASSES = [
    *((int(code), CredentialsRefused) for code in CREDENTIALS.split()),
    *((int(code), TokenUnavailable) for code in PASSING.split()),
    *((int(code), AppMisconfigured) for code in APP.split()),
]


@pytest.mark.parametrize(("code", "kind"), CLASSES)
def test_codes(code: int, kind: type[TokenError]) -> None:
    """Whatever OAuth error word comes with it."""
    for word in ("invalid_grant", "invalid_client", "interaction_required", ""):
        found = token_error({"error": word, "error_codes": [code], "error_description": "S3CRET"})
        assert type(found) is kind
        assert found.entra_code == f"AADSTS{code}"
        assert len(found.advice) > 15
        assert "S3CRET" not in f"{found} {found!r} {found.__dict__}"


def test_no_code_stands_in_two_classes() -> None:
    assert len({code for code, _ in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("invalid_grant", CredentialsRefused),
        ("interaction_required", CredentialsRefused),
        ("invalid_client", AppMisconfigured),
        ("unauthorized_client", AppMisconfigured),
        ("invalid_scope", AppMisconfigured),
        ("consent_required", AppMisconfigured),
        ("invalid_resource", AppMisconfigured),
        ("invalid_request", AppMisconfigured),
        ("unsupported_grant_type", AppMisconfigured),
        ("temporarily_unavailable", TokenUnavailable),
        ("server_error", TokenUnavailable),
        ("something_new", TokenUnavailable),
        ("", TokenUnavailable),
    ],
)
def test_an_unknown_code_falls_back_on_the_word(word: str, kind: type[TokenError]) -> None:
    assert type(token_error({"error": word})) is kind
    found = token_error({"error": word, "error_codes": [99999999]})
    assert type(found) is kind
    assert found.entra_code == "AADSTS99999999"


def test_the_first_known_code_decides() -> None:
    assert token_error({"error_codes": [1, 7000222, 50126]}).entra_code == "AADSTS7000222"
    assert token_error({"error_codes": [1, 90033]}).entra_code == "AADSTS90033"


@pytest.mark.parametrize(("code", "kind"), CLASSES)
@pytest.mark.parametrize("listed", [{}, {"error_codes": []}, {"error_codes": None}, {"error_codes": ["x", {}, 1.5]}])
def test_the_number_may_stand_in_the_text_alone(code: int, kind: type[TokenError], listed: dict[str, Any]) -> None:
    text = f"AADSTS{code}: A sentence of Microsoft's.\r\nTrace ID: 7 Correlation ID: 8 Timestamp: 2026-01-01 00:00:00Z"
    found = token_error({"error": "invalid_grant", "error_description": text, **listed})
    assert type(found) is kind
    assert found.entra_code == f"AADSTS{code}"
    assert "sentence" not in found.advice


def test_numbers_as_text_and_the_old_form_with_two_of_them() -> None:
    assert token_error({"error": "invalid_grant", "error_codes": ["50053"]}).entra_code == "AADSTS50053"
    text = "AADSTS70002: Error validating credentials. AADSTS50126: Invalid username or password."
    assert token_error({"error": "invalid_grant", "error_description": text}).entra_code == "AADSTS50126"


def test_the_list_goes_before_the_text() -> None:
    answer = {"error_codes": [50126], "error_description": "AADSTS7000222: no"}
    assert token_error(answer).entra_code == "AADSTS50126"


def test_the_suberror_says_more_than_the_error() -> None:
    assert type(token_error({"error": "invalid_grant", "suberror": "consent_required"})) is AppMisconfigured
    assert type(token_error({"error": "invalid_grant", "suberror": "basic_action"})) is CredentialsRefused
    assert token_error({"error": "invalid_grant", "suberror": "basic_action"}).entra_code == "invalid_grant"


@pytest.mark.parametrize("word", ["S3CRET pass word", {"code": "S3CRET"}, "x" * 41, "S3CRET\n"])
def test_what_is_no_word_is_not_shown(word: object) -> None:
    assert token_error({"error": word}).entra_code == ""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (50076, "multi-factor"),
        (53003, "conditional access"),
        (7000222, "expired"),
        (50055, "expired"),
        (65001, "consent"),
        (90002, "tenant"),
        (50053, "locked"),
    ],
)
def test_advice_says_what_to_mend(code: int, words: str) -> None:
    assert words in token_error({"error_codes": [code]}).advice


anything = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers() | st.none(), max_size=3)
)


@given(st.dictionaries(st.sampled_from(["error", "error_codes", "error_description", "suberror"]), anything))
def test_any_answer_is_an_error_and_raises_nothing(answer: dict[str, Any]) -> None:
    assert isinstance(token_error(answer), TokenError)
