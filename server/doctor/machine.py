"""Checks the machine: Python, libraries, cores, clock, GPU, encoders and the model."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator

import av

from engine.backends.registry import load_backend
from engine.errors import PsistreamError
from server.codecs import ALWAYS_FAST, NAMES, SHARE_MAX
from server.config import MediaConfig, ServerConfig
from server.doctor.findings import Finding, bad, good, note
from server.worker.contexts import PictureFormat
from server.worker.hardware import chosen
from server.worker.speed import share

LIBRARIES = ("aiortc", "aioice", "av", "onnxruntime", "fastapi", "uvicorn", "aiomqtt", "numpy")
PINNED = {"aiortc": "1.16", "aioice": "0.13"}  # server/webrtc/adapter uses private members of these
PICTURE = PictureFormat(320, 192, 16, 1_000_000)  # the encoded video of the built-in model
CLOCK_UNSYNCHRONISED = 5  # adjtimex(2)


def python() -> Finding:
    version = platform.python_version()
    return good("python", f"{version} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")


def libraries() -> Iterator[Finding]:
    found = []
    for name in LIBRARIES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield bad(
                "libraries", f"{name} is not installed", "pip install psistream, in a fresh environment"
            )
            continue
        if not version.startswith(PINNED.get(name, "")):
            wanted = PINNED[name]
            yield bad("libraries", f"{name} is {version}, not {wanted}", f"pip install '{name}=={wanted}.*'")
        found.append(f"{name} {version}")
    yield good("libraries", ", ".join(found))


def encoders(media: MediaConfig) -> Iterator[Finding]:
    """Measure the share of one core that encoding a session's video takes, and name the H.264 encoder."""
    for codec in media.codecs:
        name = NAMES[codec]
        try:
            taken = share(codec, PICTURE, hardware=media.hardware)
        except (av.FFmpegError, ValueError) as error:
            yield bad("encoder", f"{name}: {error}", f"reinstall PyAV, or leave {codec} out of --codecs")
            continue
        by = f" by {chosen().name}" if codec == "h264" and media.hardware else ""
        text = f"{name}{by} {PICTURE.width}x{PICTURE.height}: {1000 * taken / PICTURE.fps:.1f} ms per frame, "
        text += f"{taken:.0%} of a core at {PICTURE.fps} fps"
        if taken <= SHARE_MAX:
            yield good("encoder", text)
        elif codec in ALWAYS_FAST:
            yield bad("encoder", text, "this machine encodes too slowly: watch from fewer sessions at once")
        else:
            yield note("encoder", f"{text}; viewers get another codec")
    if "h264" in media.codecs and media.hardware and chosen().encoder is None:
        yield note("encoder", f"no H264 in hardware: {chosen().why}")


def model(config: ServerConfig) -> Finding:
    worker = config.worker
    started_s = time.perf_counter()
    try:
        backend = load_backend(worker.backend, worker.model, worker.weights)
        spec = backend.spec
        backend.close()
    except PsistreamError as error:
        return bad("model", error.message, "check --model, --backend and --weights, or leave them out")
    took_s = time.perf_counter() - started_s
    size = f"{spec.width}x{spec.height} at {spec.fps} fps"
    return good("model", f"{spec.name} on {worker.backend}, {size}, loaded in {took_s:.1f} s")


def gpu() -> Finding:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return note("gpu", "no NVIDIA driver: models run on the CPU")
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, encoding="utf-8", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return bad("gpu", f"nvidia-smi does not answer: {error}", "check the driver: dmesg, nvidia-smi")
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        return bad("gpu", said[0] if said else "nvidia-smi failed", "check the driver: dmesg, nvidia-smi")
    return good("gpu", "; ".join(done.stdout.strip().splitlines()))


def clock() -> Finding:
    """Check that the clock is synchronised: logs contain the time, and the certificates of TURN servers and
    proxies are checked against it."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    name = ctypes.util.find_library("c")
    try:
        state = ctypes.CDLL(name).adjtimex(ctypes.create_string_buffer(512)) if name else None
    except (OSError, AttributeError):
        state = None
    if state == CLOCK_UNSYNCHRONISED:
        return note("clock", f"{now}, not synchronised", "turn on NTP: timedatectl set-ntp true")
    return good("clock", now)
