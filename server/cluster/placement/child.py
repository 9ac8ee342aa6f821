"""Becomes a worker that ends with the process that keeps it:

python -m server.cluster.placement.child PID COMMAND…
"""

from __future__ import annotations

import os
import sys

from server.cluster.placement.tie import end_with


def main() -> None:
    parent, *command = sys.argv[1:]
    end_with(int(parent))  # which the command inherits
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
