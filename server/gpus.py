"""Lists this machine's GPUs: those in CUDA_VISIBLE_DEVICES, otherwise those that nvidia-smi lists.

The gateway never touches a device, so this uses no CUDA library and allocates nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

VISIBLE = "CUDA_VISIBLE_DEVICES"
TIMEOUT_S = 10.0
LISTED = re.compile(r"^GPU \d+: .*\(UUID: (GPU-[0-9a-f-]+)\)", re.MULTILINE)


def gpus() -> tuple[str, ...]:
    """The GPUs' names in the form of CUDA_VISIBLE_DEVICES. Empty without a GPU or a driver."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return tuple(name for part in named.split(",") if (name := part.strip()) and name != "-1")
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        done = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, encoding="utf-8", timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(LISTED.findall(done.stdout))
