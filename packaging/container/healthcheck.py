# SPDX-License-Identifier: MIT
"""The container's health check: exit code 0 where the relay greets.

Any reply will do: 421 (full) and 554 (allowed_networks) come from a relay that lives, too. $HEALTHCHECK_PORT names
another port than 2526.
"""

import os
import socket
import sys

PORT = int(os.environ.get("HEALTHCHECK_PORT", "2526"))

try:
    with socket.create_connection(("127.0.0.1", PORT), timeout=5) as connection:
        greeting = connection.recv(512)
        connection.sendall(b"QUIT\r\n")
except OSError as fault:
    sys.exit(f"port {PORT}: {fault}")
if not greeting[:3].isdigit():
    sys.exit(f"port {PORT}: this is no SMTP server")
