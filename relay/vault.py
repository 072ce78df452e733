# SPDX-License-Identifier: MIT
"""Secrets at rest: `enc:` values and the key file that opens them (Fernet: AES-128-CBC with HMAC-SHA256).

Knows no configuration key. The key file holds one key a line: the first one encrypts, all of them decrypt, so that a
new first line and another `encrypt` change the key of a configuration file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PREFIX = "enc:"
_SYSTEM_KEY_FILE = Path("/etc/graph-smtp-relay/secret.key")


class VaultFault(Exception):
    """Why a value cannot be encrypted or decrypted. Holds no key and no value."""


def key_file(option: str | None, environ: Mapping[str, str]) -> Path:
    """Where the key lies: --key-file, $GRAPH_SMTP_RELAY_KEY_FILE, systemd's $CREDENTIALS_DIRECTORY/key, /etc."""
    if given := option or environ.get("GRAPH_SMTP_RELAY_KEY_FILE"):
        return Path(given)
    if directory := environ.get("CREDENTIALS_DIRECTORY"):  # which may hold other credentials alone
        credential = Path(directory) / "key"
        return credential if credential.exists() or not _SYSTEM_KEY_FILE.exists() else _SYSTEM_KEY_FILE
    return _SYSTEM_KEY_FILE


class Vault:
    """The key file, read when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: Any = None

    def decrypt(self, text: str) -> str:
        """What `enc:…` stands for. Raises VaultFault."""
        from cryptography.fernet import InvalidToken

        try:
            return str(self._keys().decrypt(text.removeprefix(PREFIX).encode("ascii")).decode())
        except (InvalidToken, UnicodeError):
            raise VaultFault(f"cannot be decrypted with the key in {self.path}; enter the value again") from None

    def encrypt(self, text: str) -> str:
        """`enc:…` for text. Raises VaultFault."""
        return PREFIX + str(self._keys().encrypt(text.encode()).decode("ascii"))

    def make_key(self) -> bool:
        """Write a key file of mode 0600 where there is none; whether one was made. Raises VaultFault."""
        from cryptography.fernet import Fernet

        try:
            self.path.parent.mkdir(exist_ok=True)  # /etc/graph-smtp-relay, where no package made it
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        except OSError as fault:
            raise VaultFault(
                f"the key file {self.path} cannot be made: {fault.strerror}; name another place with --key-file"
            ) from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
        return True

    def _keys(self) -> Any:
        from cryptography.fernet import Fernet, MultiFernet

        if self._opened is None:
            try:
                lines = self.path.read_text("ascii").split()
            except OSError as fault:
                raise VaultFault(
                    f"the key file {self.path} cannot be read: {fault.strerror}; name it with --key-file or "
                    "$GRAPH_SMTP_RELAY_KEY_FILE"
                ) from None
            except UnicodeError:
                lines = []
            try:
                self._opened = MultiFernet([Fernet(line) for line in lines])
            except ValueError:
                raise VaultFault(f"{self.path} is no key file; graph-smtp-relay encrypt makes one") from None
        return self._opened
