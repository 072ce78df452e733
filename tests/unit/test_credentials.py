# SPDX-License-Identifier: MIT
"""Secrets and scrypt hashes."""

from __future__ import annotations

import pytest

from relay.credentials import Secret, check_password_hash, hash_password, verify_password

SALT, HASH = "AAAAAAAAAAAAAAAAAAAAAA==", "A" * 43 + "="


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("S3CRET")
    assert "S3CRET" not in f"{secret} {secret!r} {secret!s} {[secret]}"
    assert secret.reveal() == "S3CRET"


def test_secrets_compare() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("\ud800") == Secret("\ud800")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert not Secret("")


@pytest.mark.parametrize("password", ["S3CRET", "", "pässwörd €", " x ", "\ud800"])
def test_hash_and_verify(password: str) -> None:
    encoded = hash_password(password)
    assert encoded.startswith("scrypt$ln=14,r=8,p=1$")
    check_password_hash(encoded)
    assert verify_password(password, encoded)
    assert not verify_password(f"{password}x", encoded)
    assert encoded != hash_password(password)


def test_known_answer() -> None:
    """The third vector of RFC 7914 §12."""
    digest = "cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw=="
    assert verify_password("pleaseletmein", f"scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU=${digest}")


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "S3CRET",
        f"scrypt$ln=14,r=8,p=1${SALT}",
        f"scrypt$ln=14,r=8,p=1${SALT}${HASH}\n",
        f"scrypt$ln=30,r=8,p=1${SALT}${HASH}",
        f"scrypt$ln=0,r=8,p=1${SALT}${HASH}",
        f"scrypt$ln=14,r=8,p=99${SALT}${HASH}",
        f"scrypt$ln=14,r=8,p=1$AAAAA${HASH}",
        f"scrypt$ln=14,r=8,p=1${SALT}$AAAA",
        f"scrypt$ln=14,r=8,p=1$AAAA${HASH}",
        f"bcrypt$ln=14,r=8,p=1${SALT}${HASH}",
    ],
)
def test_malformed_hash(encoded: str) -> None:
    with pytest.raises(ValueError, match="scrypt hash") as caught:
        check_password_hash(encoded)
    assert "S3CRET" not in str(caught.value)
    with pytest.raises(ValueError, match="scrypt hash"):
        verify_password("x", encoded)
