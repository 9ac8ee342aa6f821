"""Builds one engine in a separate process: `python -m export.tensorrt.worker REQUEST`.

The request is a JSON file that names the files for the plan and the result. TensorRT's messages go to stderr,
and progress to stdout as lines "phase share". A crash or lack of memory ends only this process. Handles
graphs and TensorRT, not caches and manifests.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.backends.gpu.tensorrt_api import Api, load_api

VARIANTS = {
    "plain": (),
    "refit": ("REFIT",),  # its weights can be replaced
    "stripped": ("STRIP_PLAN", "REFIT_IDENTICAL"),  # without weights; the graph supplies them at load time
}
NO_KERNEL = "decomposable"  # part of TensorRT's message if it has no kernel for attention


@dataclass(frozen=True)
class Request:
    """What to build, from which graph, into which files."""

    backend: str
    graph: str
    plan: str | None  # None: parse only
    result: str
    batch: tuple[int, int, int]
    target: str
    variant: str = "plain"
    level: int | None = None
    workspace_bytes: int | None = None
    sizes: tuple[dict[str, list[int]], ...] = ()  # of inputs that differ by profile; empty: one profile
    timing_cache: str | None = None


@dataclass
class BuildResult:
    """The outcome of a build, or of parsing alone."""

    ok: bool = False
    errors: tuple[str, ...] = ()
    layers: dict[str, int] | None = None
    inputs: dict[str, tuple[str, list[int]]] | None = None
    outputs: dict[str, tuple[str, list[int]]] | None = None
    decomposable: bool = False
    build_s: float = 0.0
    peak_bytes: int = 0


def run(request: Request) -> BuildResult:
    """Parse and build. If attention has no kernel, builds a second time with attention decomposed."""
    api = load_api(request.backend)
    messages: list[str] = []
    result = BuildResult()
    began = time.monotonic()
    logger = make_logger(api, messages)
    for decomposable in (False, True):
        messages.clear()
        builder = api.trt.Builder(logger)
        network, errors = parse(api, builder, logger, request.graph)
        if errors:
            result.errors = tuple(errors)
            break
        result.layers = census(network)
        result.inputs = tensors(network.get_input(i) for i in range(network.num_inputs))
        result.outputs = tensors(network.get_output(i) for i in range(network.num_outputs))
        if request.plan is None:
            result.ok = True
            break
        if decomposable:
            result.decomposable = True
            decompose(api, network)
        config = configure(api, builder, network, request)
        plan = builder.build_serialized_network(network, config)
        if plan is not None:
            Path(request.plan).write_bytes(plan)
            keep_timings(config, request)
            result.ok, result.errors = True, ()
            break
        result.errors = tuple(messages[-5:])
        if decomposable or not any(NO_KERNEL in line for line in messages):
            break
    result.build_s = time.monotonic() - began
    result.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result


def parse(api: Api, builder: Any, logger: Any, graph: str) -> tuple[Any, list[str]]:
    flag = getattr(api.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = api.trt.OnnxParser(network, logger)
    if parser.parse_from_file(graph):
        return network, []
    return network, [
        f"{e.node_name() or 'graph'} ({e.node_operator() or '?'}): {e.desc()}"
        for e in (parser.get_error(i) for i in range(parser.num_errors))
    ] or ["the parser refused the graph without giving a reason"]


def configure(api: Api, builder: Any, network: Any, request: Request) -> Any:
    trt = api.trt
    config = builder.create_builder_config()
    if request.target != "current":
        capability = api.capability(request.target)
        if capability is not None:
            config.num_compute_capabilities = 1
            config.set_compute_capability(capability, 0)
    for flag in VARIANTS[request.variant]:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if request.level is not None:
        config.builder_optimization_level = request.level
    if request.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    for sizes in request.sizes or ({},):
        profile = builder.create_optimization_profile()
        for i in range(network.num_inputs):
            tensor = network.get_input(i)
            rest = sizes.get(tensor.name, tuple(tensor.shape)[1:])
            profile.set_shape(tensor.name, *((n, *rest) for n in request.batch))
        config.add_optimization_profile(profile)
    if request.timing_cache is not None:
        file = Path(request.timing_cache)
        cache = config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    config.progress_monitor = make_monitor(api)
    return config


def keep_timings(config: Any, request: Request) -> None:
    """Store the timing cache, so that the next build measures only new layers."""
    if request.timing_cache is None:
        return
    cache = config.get_timing_cache()
    if cache is None:
        return
    file = Path(request.timing_cache)
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(bytes(cache.serialize()))
    new.replace(file)


def decompose(api: Api, network: Any) -> None:
    """Allow attention to be built from matrix products, since it has no kernel in fp32."""
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if layer.type == api.trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = api.trt.IAttentionInputLayer
            layer.attention.decomposable = True


def census(network: Any) -> dict[str, int]:
    types = (network.get_layer(i).type for i in range(network.num_layers))
    return dict(sorted(Counter(str(t).rpartition(".")[2] for t in types).items()))


def tensors(found: Any) -> dict[str, tuple[str, list[int]]]:
    return {t.name: (str(t.dtype).rpartition(".")[2], list(t.shape)) for t in found}


def make_logger(api: Api, messages: list[str]) -> Any:
    class BuildLogger(api.trt.ILogger):  # type: ignore[misc,name-defined]
        def log(self, severity: Any, text: str) -> None:
            if severity <= api.trt.ILogger.Severity.INFO:
                print(f"{severity}: {text}", file=sys.stderr, flush=True)
            if severity <= api.trt.ILogger.Severity.ERROR:
                messages.append(text)

    return BuildLogger()


def make_monitor(api: Api) -> Any:
    class Monitor(api.trt.IProgressMonitor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            api.trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.steps[name] = steps
            print(f"{name} 0", flush=True)

        def step_complete(self, name: str, step: int) -> bool:
            print(f"{name} {(step + 1) / max(1, self.steps.get(name, 1)):.2f}", flush=True)
            return True

        def phase_finish(self, name: str) -> None:
            print(f"{name} 1", flush=True)

    return Monitor()


def main(argv: list[str]) -> int:
    data = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    request = Request(**{**data, "batch": tuple(data["batch"])})
    result = run(request)
    Path(request.result).write_text(json.dumps(asdict(result)), encoding="utf-8")
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
