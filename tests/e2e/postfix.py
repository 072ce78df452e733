# SPDX-License-Identifier: MIT
"""A Postfix of its own with `relayhost`: throw-away configuration, queue and port; the system's own is left alone.

Knows main.cf and master.cf of Postfix 3.6 and newer. Needs root, since the master drops its rights itself.
"""

from __future__ import annotations

import shutil
import smtplib
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.e2e.conftest import Login
from tests.support.relay_process import wait_until

MAIN_CF = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
multi_instance_directories =
myhostname = postfix.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = {directory}/data/mail.log
maillog_file_prefixes = {directory}
alias_maps =
local_recipient_maps =
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtp_destination_recipient_limit = 500
smtpd_relay_restrictions = permit_mynetworks, reject
relayhost = [127.0.0.1]:{relay_port}
smtp_sasl_security_options = noanonymous
smtp_sasl_auth_enable = {auth}
smtp_sasl_password_maps = texthash:{directory}/sasl_passwd
"""

# No chroot anywhere: these are all the services that mail in by SMTP and out by SMTP needs.
MASTER_CF = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """`with Postfix(relay_port, login) as postfix:` — takes mail on postfix.port. login: None sends without AUTH.

    settings: more for main.cf. ca: PEM of who signs the relay's certificate.
    """

    def __init__(
        self, relay_port: int, login: Login | None, *, settings: Mapping[str, str] | None = None, ca: str = ""
    ) -> None:
        self._settings = settings or {}
        self._ca = ca
        self._relay_port = relay_port
        self._login = login
        self.logs_in = login is not None
        self.port = 0

    def __enter__(self) -> Postfix:
        # Not below pytest's own directory, into which the user postfix may not look.
        self._directory = Path(tempfile.mkdtemp(prefix="graph-smtp-relay-postfix-"))
        self._directory.chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._write_config()
        try:
            self._postfix("start")
            wait_until(self._listens, "Postfix to listen")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def send(self, sender: str, recipients: list[str], octets: bytes, *, options: Sequence[str] = ()) -> None:
        """Hand a ready message in; it goes on by itself."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=120) as client:
            client.sendmail(sender, recipients, octets, mail_options=options)

    def log(self) -> str:
        path = self._directory / "data" / "mail.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _write_config(self) -> None:
        values = {"directory": self._directory, "relay_port": self._relay_port, "port": self.port}
        values["auth"] = "no" if self._login is None else "yes"
        main_cf = MAIN_CF.format(**values) + "".join(f"{name} = {value}\n" for name, value in self._settings.items())
        if self._ca:
            main_cf += f"smtp_tls_CAfile = {self._directory}/ca.pem\n"
            (self._directory / "ca.pem").write_text(self._ca)
        (self._directory / "main.cf").write_text(main_cf)
        (self._directory / "master.cf").write_text(MASTER_CF.format(**values))
        for name in ("queue", "data"):
            (self._directory / name).mkdir()
        shutil.chown(self._directory / "data", "postfix")
        passwords = self._directory / "sasl_passwd"
        passwords.touch(0o600)
        if self._login is not None:
            passwords.write_text(f"[127.0.0.1]:{self._relay_port} {self._login.user}:{self._login.password}\n")

    def _postfix(self, action: str) -> None:
        ended = subprocess.run(
            ["postfix", "-c", self._directory, action], capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr + self.log()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def _stop(self) -> None:
        subprocess.run(["postfix", "-c", self._directory, "stop"], capture_output=True, timeout=120, check=False)
        shutil.rmtree(self._directory, ignore_errors=True)  # its daemons may still be taking their own files away
