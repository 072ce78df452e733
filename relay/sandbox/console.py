# SPDX-License-Identifier: MIT
"""What the sandbox command says: its configuration for the relay, and lines to paste into a shell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import yaml

from relay.config import Config, ProcessConfig
from relay.credentials import Secret


def config_text(listen: str, log_level: str, upstream_url: str, ca_file: Path, admin: str = "") -> str:
    """A configuration file for a relay in front of the sandbox: any login is taken, and mail without one."""
    return yaml.safe_dump(
        {
            "listen_addr": listen or "127.0.0.1:2526",
            "admin_addr": admin,
            "log_level": log_level,
            "oauth2_config": {
                "client_id": "00000000-0000-0000-0000-000000000001",
                "client_secret": "sandbox-secret",
                "tenant_id": "sandbox",
                "authority": upstream_url,
            },
            "graph_url": upstream_url,
            "ca_bundle": str(ca_file),
            "allow_anonymous": True,
            "fallback_smtp_user": "anonymous@sandbox.example",
            "fallback_smtp_pass": "sandbox",
        }
    )


def with_file(stand_in: Config, file: Config, *, listen: bool, admin: bool) -> Config:
    """What config_text gave, with the SMTP side of the administrator's file: devices are tried as they will be served.

    listen, admin: take these addresses from the file, too. Its logins and its way to Microsoft stay out.
    """
    replaced = dataclasses.replace
    ours = stand_in.access
    return replaced(
        file,
        listen=replaced(file.listen, addresses=(file if listen else stand_in).listen.addresses),
        access=replaced(
            file.access,
            allow_anonymous=True,
            fallback_user=ours.fallback_user,
            fallback_password=ours.fallback_password,
        ),
        entra=stand_in.entra,
        accounts=stand_in.accounts,
        graph=replaced(file.graph, url=stand_in.graph.url, ca_bundle=stand_in.graph.ca_bundle, https_proxy=Secret("")),
        admin=(file if admin else stand_in).admin,
        process=ProcessConfig(),  # the stand-in shows its mails in this process
        warnings=(),
    )


def how_to_use(addresses: list[str], admin_address: str = "") -> str:
    """Where the relay listens, and one line each for swaks, curl and Python's smtplib."""
    host, _, port = addresses[0].rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nobody connects to the wildcard
    url = f"smtp://{f'[{host}]' if ':' in host else host}:{port}"
    page = f"\nThe mails and the admin page: http://{admin_address}/\n" if admin_address else ""
    return f"""graph-smtp-relay sandbox: listening on {", ".join(addresses)}
Any user name and password will do, and so will none. Mail arrives here and goes nowhere. Paste one of:

  swaks --server {host} --port {port} --auth-user me@example.com --auth-password x --from me@example.com --to you@example.com
  printf 'Subject: hello\\r\\n\\r\\nIt works.\\r\\n' | curl -sS {url} --user me@example.com:x --mail-from me@example.com --mail-rcpt you@example.com -T -
  python3 -c 'import smtplib; s = smtplib.SMTP("{host}", {port}); s.login("me@example.com", "x"); s.sendmail("me@example.com", ["you@example.com"], "Subject: hello\\r\\n\\r\\nIt works.\\r\\n")'
{page}
Ctrl-C ends it."""
