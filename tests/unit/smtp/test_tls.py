# SPDX-License-Identifier: MIT
"""The contexts for TLS, and what the log says of a handshake that failed."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from relay.clock import Clock
from relay.selfsigned import write_pair
from relay.smtp import tls


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    cert_file, key_file = write_pair(tmp_path_factory.mktemp("tls"), ["relay.example"], Clock().now())
    return str(cert_file), str(key_file)


def test_the_default_lets_nothing_weak_in(pair: tuple[str, str]) -> None:
    context = tls.server_context(*pair, "TLSv1.2")
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    for cipher in context.get_ciphers():
        assert cipher["aead"] or cipher["strength_bits"] >= 128, cipher["name"]
        assert not {"NULL", "RC4", "DES", "MD5", "EXP", "ADH"} & set(cipher["name"].replace("_", "-").split("-"))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.1"])
def test_old_versions_come_with_what_they_need(pair: tuple[str, str], version: str) -> None:
    context = tls.server_context(*pair, version)
    names = {cipher["name"] for cipher in context.get_ciphers()}
    assert context.minimum_version.name == version.replace(".", "_")
    assert "AES128-SHA" in names, "the one cipher that many old devices know"
    assert not any(word in name for name in names for word in ("NULL", "ADH", "AECDH", "EXP"))


def test_what_cannot_be_used(pair: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tls.server_context(str(tmp_path / "none.pem"), pair[1], "TLSv1.2")
    with pytest.raises(ssl.SSLError):
        tls.server_context(pair[0], pair[0], "TLSv1.2")


def _failure(reason: str) -> ssl.SSLError:
    fault = ssl.SSLError(1, "x")
    fault.reason = reason
    return fault


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (TimeoutError("x"), "did not finish the handshake in time"),
        (ConnectionResetError("x"), "hung up"),
        (ValueError("x"), "hung up"),
        (_failure("UNSUPPORTED_PROTOCOL"), "tls.min_version"),
        (_failure("NO_SHARED_CIPHER"), "tls.min_version TLSv1"),
        (_failure("HTTP_REQUEST"), "HTTP"),
        (_failure("SOMETHING_NEW"), "OpenSSL says something new"),
    ],
)
def test_why_failed(fault: Exception, words: str) -> None:
    assert words in tls.why_failed(fault)
