"""Finds the CUDA device, if any. A separate process asks the driver, since TensorRT crashes without a device
and a broken driver must not crash this process. Needs neither torch nor TensorRT.
"""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from engine.errors import Unavailable

TIMEOUT_S = 60.0
PROBE = """
import ctypes, json, sys
cuda = ctypes.CDLL(sys.argv[1])
def check(what, code):
    if code:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(code, ctypes.byref(text))
        sys.exit(f"{what}: {(text.value or b'unknown error').decode()} ({code})")
check("cuInit", cuda.cuInit(0))
count, driver = ctypes.c_int(), ctypes.c_int()
check("cuDeviceGetCount", cuda.cuDeviceGetCount(ctypes.byref(count)))
if not count.value:
    sys.exit("the driver knows no device")
check("cuDriverGetVersion", cuda.cuDriverGetVersion(ctypes.byref(driver)))
name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
check("cuDeviceGetName", cuda.cuDeviceGetName(name, 256, 0))
check("cuDeviceTotalMem", cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), 0))
numbers = []
for attribute in (75, 76):  # compute capability, major and minor
    value = ctypes.c_int()
    check("cuDeviceGetAttribute", cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0))
    numbers.append(value.value)
print(json.dumps([name.value.decode(), 10 * numbers[0] + numbers[1], driver.value, memory.value]))
"""


@dataclass(frozen=True)
class Device:
    name: str
    capability: int  # 90 for 9.0
    driver: int  # the newest CUDA version that it supports, 13000 for 13.0
    memory_bytes: int

    @property
    def target(self) -> str:
        return f"sm{self.capability}"


@cache
def cuda_device() -> Device:
    """The first device. Raises Unavailable with the driver's message."""
    library = ctypes.util.find_library("cuda") or ctypes.util.find_library("nvcuda")
    if library is None:
        raise Unavailable("no CUDA driver on this machine (libcuda not found)", field="device")
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, library],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Unavailable(f"asking the CUDA driver for a device failed: {e}", field="device") from e
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"the probe died ({done.returncode})"]
        raise Unavailable(f"no usable CUDA device: {said[0]}", field="device")
    name, capability, driver, memory = json.loads(done.stdout)
    return Device(name, capability, driver, memory)
