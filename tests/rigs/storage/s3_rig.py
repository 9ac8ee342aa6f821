"""A server of S3 (moto's), with one bucket. It keeps nothing when it is killed."""

from __future__ import annotations

import sys

from tests.rigs.control.port_server import PortServer
from tests.rigs.paths import ROOT

KEY, SECRET = "AKIAAAAAAAAAAAAAAAAA", "a-secret-of-the-tests"


class S3(PortServer):
    def __init__(self) -> None:
        super().__init__()
        program = ROOT / "tests" / "rigs" / "storage" / "s3_server.py"
        self.command = [sys.executable, str(program), str(self.port), KEY, SECRET]

    @property
    def url(self) -> str:
        return "s3://bucket/folder"

    def account(self, port: int | None = None, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
        """The variables of this account's user; `port`: of a relay to this server."""
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
        }
