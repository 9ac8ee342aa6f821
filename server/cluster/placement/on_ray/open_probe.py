"""Says whether Ray's head lets a stranger in: python -m server.cluster.placement.on_ray.open_probe ADDRESS

Run without a token. It prints `open`, `closed`, or nothing if there is no answer.
"""

from __future__ import annotations

import sys

from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError

ANSWER_S = 10.0


def main() -> None:
    try:
        address = canonicalize_bootstrap_address(sys.argv[1])
        GcsClient(address=address).internal_kv_get(b"session_name", b"session", timeout=ANSWER_S)
    except AuthenticationError:
        print("closed")
    except Exception as error:
        print(error, file=sys.stderr)
    else:
        print("open")


if __name__ == "__main__":
    main()
