# SPDX-License-Identifier: MIT
"""The machine and the network are not as they should be: one clear line each that says what to do, no traceback."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.relay_process import RelayProcess, config_for, run_once, wait_until
from tests.support.sandbox_client import Upstream
from tests.support.tee import Tee

SENDER, RECIPIENT = "me@example.com", "you@example.org"
CONFIG = "oauth2_config: {client_id: a, client_secret: b, tenant_id: c}\nlisten_addr: {address}\nlog: {log}\n"


def start_in_vain(tmp_path: Path, *, address: str = "127.0.0.1:0", log: str = "", prefix: tuple[str, ...] = ()) -> str:
    """The one line on standard error of a relay that cannot start; its exit code is 1."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("{address}", repr(address)).replace("{log}", repr(log)))
    ended = run_once("run", "--config", config, prefix=prefix)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("graph-smtp-relay: ")
    return ended.stderr


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        fault = start_in_vain(tmp_path, address=address)
    assert address in fault
    assert "in use" in fault
    assert "listen_addr" in fault


def test_a_port_below_1024_without_rights(tmp_path: Path) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > 25:
        as_others = ("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service")
        fault = start_in_vain(tmp_path, address="127.0.0.1:25", prefix=as_others if os.geteuid() == 0 else ())
        assert "no permission" in fault
        assert "1024" in fault
    else:
        pytest.skip("this machine lets everybody listen on port 25")


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    fault = start_in_vain(tmp_path, address="192.0.2.1:2526")
    assert "192.0.2.1:2526" in fault
    assert "not an address of this machine" in fault


def test_a_host_name_that_is_none(tmp_path: Path) -> None:
    fault = start_in_vain(tmp_path, address="no-such-host.invalid:2526")
    assert "no-such-host.invalid:2526" in fault
    assert "listen_addr" in fault


@pytest.mark.parametrize("log", ["/", "{}/none/relay.log"], ids=["directory", "no-directory"])
def test_a_log_file_that_cannot_be_opened(tmp_path: Path, log: str) -> None:
    log = log.format(tmp_path)
    fault = start_in_vain(tmp_path, log=log)
    assert f"the log file {log} cannot be opened" in fault
    assert "change `log`" in fault


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no /dev/full")
@pytest.mark.parametrize("place", ["file", "stdout"])
def test_a_full_disk_for_the_log(tmp_path: Path, upstream: Upstream, place: str) -> None:
    """Mail goes on, and standard error says once a minute what is wrong."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = config_for(upstream, listen_addr=f"127.0.0.1:{port}", log="/dev/full" if place == "file" else "")
    relay = RelayProcess(tmp_path, config)
    relay.host, relay.port = "127.0.0.1", port
    with Path("/dev/full" if place == "stdout" else os.devnull).open("wb") as stdout:
        relay.start(stdout)
    try:
        wait_until(lambda: can_connect(port), "the port")
        with relay.smtp(SENDER, "x") as client:
            assert send(client) == "250 2.0.0"
        relay.signal(signal.SIGTERM)
        assert relay.wait() == 0
        assert len(relay.stderr.splitlines()) == 1
        assert "the log cannot be written" in relay.stderr
        assert "No space left on device" in relay.stderr
        assert "change `log`" in relay.stderr
    finally:
        relay.stop()
    assert len(upstream.messages()) == 1


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def send(client: smtplib.SMTP) -> str:
    """Code and enhanced code after the data."""
    client.mail(SENDER)
    client.rcpt(RECIPIENT)
    code, text = client.data(f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: hello\r\n\r\nText.\r\n")
    return f"{code} {text.decode('ascii').split()[0]}"


def login_code(relay: RelayProcess) -> int:
    with relay.smtp() as client:
        try:
            return client.login(SENDER, "x")[0]
        except smtplib.SMTPAuthenticationError as refusal:
            return refusal.smtp_code


@pytest.fixture
def cut_network(upstream: Upstream) -> Iterator[Tee]:
    """A way to the sandbox that is not there until it is joined."""
    host, _, port = upstream.url.removeprefix("https://").rpartition(":")
    tee = Tee(host, int(port))
    yield tee
    tee.close()


def with_urls(upstream: Upstream, authority: str, graph_url: str) -> dict[str, Any]:
    config = config_for(upstream, graph_url=graph_url)
    config["oauth2_config"] = {
        **config["oauth2_config"],
        "authority": authority,
        "scopes": [f"{upstream.url}/.default"],
    }
    return config


def test_an_authority_out_of_reach_at_the_start_that_heals(
    tmp_path: Path, upstream: Upstream, cut_network: Tee
) -> None:
    config = with_urls(upstream, f"https://127.0.0.1:{cut_network.port}", upstream.url)
    with RelayProcess(tmp_path, config) as relay:
        assert login_code(relay) == 454
        line = relay.wait_for("auth_unavailable")
        assert "Entra ID cannot be reached" in line["reason"]
        assert "firewall" in line["reason"]
        cut_network.join()
        with relay.smtp(SENDER, "x") as client:
            assert send(client) == "250 2.0.0"
        relay.assert_sound()


def test_graph_out_of_reach_that_heals(tmp_path: Path, upstream: Upstream, cut_network: Tee) -> None:
    config = with_urls(upstream, upstream.url, f"https://127.0.0.1:{cut_network.port}")
    with RelayProcess(tmp_path, config) as relay, relay.smtp(SENDER, "x") as client:
        assert send(client) == "451 4.4.1"
        line = relay.wait_for("deferred")
        assert line["attempts"] == 3
        assert "Graph cannot be reached" in line["reason"]
        assert "possible_duplicate" not in line
        cut_network.join()
        assert send(client) == "250 2.0.0"
        relay.assert_sound()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Upstream]:
    """A second sandbox, whose certificates another CA has signed."""
    (tmp_path / "other").mkdir()
    with Upstream(tmp_path / "other") as running:
        yield running


def test_a_wrong_ca_for_entra(tmp_path: Path, upstream: Upstream, other: Upstream) -> None:
    with RelayProcess(tmp_path / "relay", config_for(upstream, ca_bundle=str(other.ca_file))) as relay:
        assert login_code(relay) == 454
        line = relay.wait_for("auth_unavailable")
        assert "certificate is not trusted" in line["reason"]
        assert "ca_bundle" in line["reason"]
        relay.assert_sound()


def test_a_wrong_ca_for_graph(tmp_path: Path, upstream: Upstream, other: Upstream) -> None:
    config = with_urls(upstream, upstream.url, other.url)
    with RelayProcess(tmp_path / "relay", config) as relay, relay.smtp(SENDER, "x") as client:
        assert send(client) == "451 4.4.1"
        line = relay.wait_for("deferred")
        assert "certificate is not trusted" in line["reason"]
        assert "ca_bundle" in line["reason"]
        assert "possible_duplicate" not in line
        relay.assert_sound()
