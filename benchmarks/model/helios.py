"""`psistream bench step --model helios --random`: the speed of Helios on this device, with random weights.

Measures one call of each stage, both decoders, and the device's own speed at matrix products in the same run.
The time of a segment and the frames per second are computed from these. `tiny` tests the benchmark on any
machine and says nothing about speed; `fake` runs the full size on fake tensors, without memory.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import description
from benchmarks.model.random_weights import TorchDevice, here, random_module
from benchmarks.report import BenchReport
from engine.backends.gpu.graphs import WARM_UP
from engine.companions.helios.taew import SegmentDecoder
from engine.companions.helios.vae import WanVae
from engine.companions.taehv import TinyDecoder
from engine.errors import Unavailable
from engine.model.helios.config import CELL, STAGES, HeliosConfig, PyramidConfig
from engine.model.helios.cost import call_flop, segment_flop, tokens_of
from engine.model.helios.kernels import attention_kernel, use_attention
from engine.model.helios.quantisation import quantise
from engine.model.helios.transformer import HeliosTransformer, is_exact

Mode = Literal["full", "tiny", "fake"]
PLANS = ((1, 1, 1), (2, 2, 1), (2, 2, 2))
TAEW, VAE = "TAEW2.1", "Wan 2.1's autoencoder"
TAEW_WIDTHS = (256, 128, 64, 64)
TINY = HeliosConfig(
    latent_height=8,
    latent_width=16,
    heads=2,
    head_dim=12,
    layers=2,
    feed_forward=32,
    text_tokens=16,
    text_dim=32,
    rope_axes=(4, 4, 4),
)
MATMUL = {"full": 8192, "tiny": 256}  # side of the square matrices


@dataclass(frozen=True)
class Speed:
    """What is tried: an attention kernel, the linears' type, and how calls are made."""

    attention: str = "sdpa"
    linears: str = "bf16"
    how: str = "eager"  # compiled; graphs: compiled, and recorded as CUDA graphs


def measure(
    mode: Mode,
    *,
    height: int,
    width: int,
    batches: Sequence[int],
    n: int,
    speed: Speed = Speed(),
) -> BenchReport:
    """Raises InvalidInput for sides that are no multiple of 64, Unavailable for what this device lacks."""
    real = HeliosConfig(latent_height=height // CELL, latent_width=width // CELL)
    c = TINY if mode == "tiny" else real
    settings = {
        "model": f"helios, random weights, {mode} size" if mode != "fake" else "helios, fake tensors",
        "picture": f"{CELL * c.latent_width} x {CELL * c.latent_height}",
        "torch": torch.__version__,
    }
    report = BenchReport("step", description(), settings)
    if mode == "fake":
        count(c, batches, report)
    else:
        report.settings |= asdict(speed)
        run(c, here(), mode, batches, n, report, speed)
    return report


def run(
    c: HeliosConfig,
    on: TorchDevice,
    mode: Mode,
    batches: Sequence[int],
    n: int,
    report: BenchReport,
    speed: Speed,
) -> None:
    report.settings |= {"device": on.name, "dtype": str(on.dtype).removeprefix("torch."), "n": n}
    ceiling = on.matmul_tflops(MATMUL[mode], n)
    report.singles["this device's matrix products"] = (round(ceiling, 3), "TFLOP/s")
    calls: list[dict[str, Any]] = []
    with torch.inference_mode():
        call = fast(c, on, speed)
        for batch in batches:
            for stage in range(STAGES):
                once = partial(call, **call_inputs(c, stage, on, batch))
                ms = on.median_ms(recorded(once, on) if speed.how == "graphs" else once, n)
                calls.append(call_row(c, stage, ms, batch, ceiling))
        decoders = {
            (name, batch): on.median_ms(partial(decoder, some_latents(c, on, batch)), n)
            for name, decoder in decoders_of(on, mode)
            for batch in batches
        }
    report.tables["one call"] = calls
    report.tables["decode"] = [
        {"decoder": name, "rows": batch, "ms": round(ms, 2)} for (name, batch), ms in decoders.items()
    ]
    report.tables["a segment"] = [
        segment_row(c, plan, batch, calls, decoders, ceiling) for batch in batches for plan in PLANS
    ]
    if on.device.type == "cuda":
        report.singles["memory at most"] = (torch.cuda.max_memory_allocated() / 2**30, "GiB")
    report.notes.append(
        f"A segment is {c.frames} frames. Its lower limit is its arithmetic at the measured speed of matrix "
        "products. Text, noise and copies between host and device are not counted."
    )
    if mode == "tiny":
        report.notes.append("A test run: these figures do not show how fast Helios is.")


def count(c: HeliosConfig, batches: Sequence[int], report: BenchReport) -> None:
    """Run every stage and both decoders on fake tensors: shapes, arithmetic, bytes of weights."""
    on = TorchDevice(here().device, torch.bfloat16)
    rows: list[dict[str, Any]] = []
    started_s = time.perf_counter()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        model = transformer(c, on)
        stored = sum(p.numel() * p.element_size() for p in model.parameters())
        for batch in batches:
            for stage in range(STAGES):
                found = model(**call_inputs(c, stage, on, batch))
                tflop = batch * call_flop(c, stage) / 1e12
                rows.append({"what": f"stage {stage}", "output": shape(found), "TFLOP": round(tflop, 3)})
            for name, decoder in decoders_of(on, "fake"):
                with FlopCounterMode(display=False) as counter:
                    found = decoder(some_latents(c, on, batch))
                tflop = counter.get_total_flops() / 1e12
                rows.append({"what": name, "output": shape(found), "TFLOP": round(tflop, 3)})
    report.tables["one call"] = rows
    report.singles["weights of the transformer"] = (stored / 2**30, "GiB")
    report.singles["time that this check took"] = (time.perf_counter() - started_s, "s")
    report.notes.append("Fake tensors: no number was computed, and nothing here says how fast Helios is.")


def shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


# ---- the measured networks ----


def transformer(c: HeliosConfig, on: TorchDevice) -> HeliosTransformer:
    return random_module(
        lambda: HeliosTransformer(c), on, lambda name: torch.float32 if is_exact(name) else on.dtype
    )


def fast(c: HeliosConfig, on: TorchDevice, speed: Speed) -> Callable[..., Tensor]:
    """Raises Unavailable for what this device or installation lacks."""
    kernel = attention_kernel(speed.attention, on.device)
    if speed.how == "graphs" and on.device.type != "cuda":
        raise Unavailable("--how graphs needs a CUDA device", field="how")
    model = transformer(c, on)
    use_attention(model, kernel)
    if speed.linears == "fp8":
        quantise(model, c.layers)
    if speed.how == "eager":
        return model
    compiled: Callable[..., Tensor] = torch.compile(model, dynamic=False, mode="max-autotune-no-cudagraphs")
    return compiled


def recorded(call: Callable[[], Tensor], on: TorchDevice) -> Callable[[], None]:
    """The call as a CUDA graph, after a few that choose kernels."""
    side = torch.cuda.Stream(on.device)
    side.wait_stream(torch.cuda.current_stream(on.device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream(on.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        call()
    return graph.replay


def call_inputs(c: HeliosConfig, stage: int, on: TorchDevice, batch: int) -> dict[str, Tensor]:
    def some(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, device=on.device, dtype=on.dtype)

    full = (c.channels, c.latent_height, c.latent_width)
    return {
        "x": some(c.segment, c.channels, *c.stage_size(stage)),
        "timestep": torch.full((batch,), 500, device=on.device),
        "projected": some(c.text_tokens, c.dim),
        "history": some(sum(c.history), *full),
        "anchor": some(1, *full),
    }


def decoders_of(on: TorchDevice, mode: Mode) -> Iterator[tuple[str, nn.Module]]:
    """The decoders, one at a time, so that only one is on the device. The autoencoder uses fp32, as in the
    public code."""
    half = torch.float16 if on.device.type == "cuda" else torch.float32
    widths = TAEW_WIDTHS if mode != "tiny" else (16, 12, 8, 8)
    yield TAEW, random_module(lambda: SegmentDecoder(TinyDecoder(widths)), on, lambda name: half)
    diffusers: Any = importlib.import_module("diffusers")
    sizes = {"base_dim": 4, "num_res_blocks": 1} if mode == "tiny" else {}
    yield (
        VAE,
        random_module(lambda: WanVae(diffusers.AutoencoderKLWan(**sizes)), on, lambda name: torch.float32),
    )


def some_latents(c: HeliosConfig, on: TorchDevice, batch: int) -> Tensor:
    return torch.randn(batch, c.segment, c.channels, c.latent_height, c.latent_width, device=on.device)


# ---- derived figures ----


def call_row(c: HeliosConfig, stage: int, ms: float, batch: int, ceiling: float) -> dict[str, Any]:
    tflop = batch * call_flop(c, stage) / 1e12
    return {
        "stage": stage,
        "rows": batch,
        "tokens": tokens_of(c, stage).total,
        "ms": round(ms, 3),
        "TFLOP": round(tflop, 4),
        "TFLOP/s": round(1000 * tflop / ms, 3),
        "% of the device": round(100_000 * tflop / ms / ceiling, 1),
    }


def segment_row(
    c: HeliosConfig,
    plan: tuple[int, int, int],
    batch: int,
    calls: Sequence[Mapping[str, Any]],
    decoders: Mapping[tuple[str, int], float],
    ceiling: float,
) -> dict[str, Any]:
    """The time of a segment, and the frames per second of all rows together if nothing else runs."""
    denoise_ms = sum(plan[row["stage"]] * float(row["ms"]) for row in calls if row["rows"] == batch)
    tflop = batch * segment_flop(c, PyramidConfig(steps=plan)) / 1e12
    return {
        "calls": ",".join(map(str, plan)),
        "rows": batch,
        "TFLOP": round(tflop, 3),
        "floor ms": round(1000 * tflop / ceiling, 2),
        "denoise ms": round(denoise_ms, 2),
        "fps, TAEW2.1": round(1000 * batch * c.frames / (denoise_ms + decoders[TAEW, batch]), 2),
        "fps, autoencoder": round(1000 * batch * c.frames / (denoise_ms + decoders[VAE, batch]), 2),
    }
