"""The version of the installed distribution."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("psistream")
except PackageNotFoundError:  # a checkout that is not installed
    VERSION = "0+unknown"
