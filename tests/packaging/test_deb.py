# SPDX-License-Identifier: MIT
"""What can be said of the Debian package without building it. Its life is in tests/lifecycle/."""

from __future__ import annotations

import re

import pytest

from relay.bootstrap import _PACKAGES
from relay.configfile import ConfigError, parse
from tests.support.relay_process import CHECKOUT

DEBIAN, CONFIG = CHECKOUT / "packaging" / "debian", CHECKOUT / "packaging" / "config.yaml"


def test_it_depends_on_what_setup_py_requires() -> None:
    required = re.findall(r'^        "([\w-]+)>=([\d.]+)",$', (CHECKOUT / "setup.py").read_text("utf-8"), re.MULTILINE)
    apt = {pip: apt for pip, apt, _ in _PACKAGES.values()}
    wanted = {f"{apt[name]} (>= {floor})" for name, floor in required if name in apt}
    assert len(wanted) == len(_PACKAGES)
    depends = re.findall(r"python3-\w[\w-]* \(>= [\d.]+\)", (DEBIAN / "control").read_text("utf-8"))
    assert set(depends) == wanted


def test_the_packaged_configuration_lacks_the_three_values_alone() -> None:
    text = CONFIG.read_text("utf-8")
    with pytest.raises(ConfigError) as caught:
        parse(text, name="config.yaml", directory=CONFIG.parent, environ={})
    assert len(caught.value.faults) == 3, caught.value
    for name in ("tenant_id", "client_id", "client_secret"):
        text = text.replace(f'  {name}: ""', f"  {name}: x")
    config = parse(text, name="config.yaml", directory=CONFIG.parent, environ={})
    assert config.warnings == ()
    assert str(config.admin.addr) == "127.0.0.1:2527"
