# SPDX-License-Identifier: MIT
"""Installs the package only: relay.py is the launcher of a checkout and would be shadowed if it were installed."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "relay/__init__.py").read_text(encoding="utf-8"), re.M)
assert VERSION is not None  # noqa: S101 - a build without a version is no build

setup(
    name="graph-smtp-relay",
    version=VERSION[1],
    description="SMTP relay for devices that know only user name and password, delivering through Microsoft 365",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["relay", "relay.*"]),
    package_data={"relay": ["units/*"], "relay.admin": ["*.css", "*.js"]},
    install_requires=[
        "gevent>=22.10",
        "msal>=1.21",
        "requests>=2.28",
        "PyYAML>=6.0",
        "python-json-logger>=2.0",
        "cryptography>=38",
        "idna>=3.3",
        "prometheus-client>=0.16",
        "pybase64>=1.3",  # does without where it is not packaged
    ],
    extras_require={
        "dev": [
            "pytest>=8",
            "pytest-xdist",
            "pytest-timeout",
            "hypothesis>=6",
            "mypy",
            "ruff",
            "coverage",
            "aiosmtpd",
            "types-requests",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["graph-smtp-relay = relay.bootstrap:console"]},
)
