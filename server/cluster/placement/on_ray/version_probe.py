"""Says how this Ray and Python differ from those of Ray's head: python -m … version_probe ADDRESS

It prints nothing if they are the same, or if the head doesn't answer: whoever starts Ray then is told why.
"""

from __future__ import annotations

import sys

from ray._common.usage.usage_lib import get_cluster_metadata
from ray._private.utils import check_version_info
from ray._raylet import GcsClient


def main() -> None:
    try:
        metadata = get_cluster_metadata(GcsClient(address=sys.argv[1]))
    except Exception as error:
        print(error, file=sys.stderr)
        return
    try:
        if metadata:
            check_version_info(metadata, "this host")
    except RuntimeError as error:
        print(error)


if __name__ == "__main__":
    main()
