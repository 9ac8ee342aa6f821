"""Where a model's weights are stored, and graphs that refer to them.

An initialiser keeps its parameter's name and holds no bytes, only a file, offset and length within a
safetensors file. So PyTorch and all graphs read the same copy, and exporting a graph of any size reads no
weights.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.errors import ModelFilesError

SHARD_BYTES = 2**31
TYPES = {
    "F16": ir.DataType.FLOAT16,
    "BF16": ir.DataType.BFLOAT16,
    "F32": ir.DataType.FLOAT,
    "I64": ir.DataType.INT64,
    "U8": ir.DataType.UINT8,
    "I8": ir.DataType.INT8,
}


@dataclass(frozen=True)
class Stored:
    """Where a tensor's bytes are in a safetensors file."""

    file: str
    offset: int
    length: int
    dtype: str
    shape: tuple[int, ...]
    name: str
    scale: Stored | None = None  # the factor of a quantised tensor


def stored_tensors(path: Path) -> dict[str, Stored]:
    """Name → place in the file, read from the safetensors header. Raises ModelFilesError."""
    try:
        with path.open("rb") as f:
            size = struct.unpack("<Q", f.read(8))[0]
            header = dict(json.loads(f.read(size).decode()))
        start = 8 + size
        return {
            name: Stored(
                path.name,
                start + t["data_offsets"][0],
                t["data_offsets"][1] - t["data_offsets"][0],
                t["dtype"],
                tuple(t["shape"]),
                name,
            )
            for name, t in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, struct.error, MemoryError, OverflowError) as e:
        raise ModelFilesError(f"{path} is not a safetensors file: {e}", field=path.name) from e


def all_stored(files: Sequence[Path]) -> dict[str, Stored]:
    """The tensors of all shards. Raises ModelFilesError if two shards hold the same name."""
    found: dict[str, Stored] = {}
    for file in files:
        for name, place in stored_tensors(file).items():
            if name in found:
                raise ModelFilesError(
                    f"{name} is in both {found[name].file} and {file.name}", field="weights"
                )
            found[name] = place
    return found


def write_shards(state: Mapping[str, Tensor], out: Path, name: str) -> list[Path]:
    """Write `name`.safetensors, or `name`-00001-of-00002.safetensors and so on, each at most 2 GiB."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, tensor in state.items():
        if size + tensor.nbytes > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][key] = tensor.contiguous()
        size += tensor.nbytes
    if len(shards) == 1:
        names = [f"{name}.safetensors"]
    else:
        names = [f"{name}-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    for file, shard in zip(names, shards, strict=True):
        save_file(shard, out / file)
        (out / file).chmod(0o644)  # the library writes with mode 0600
    return [out / file for file in names]


def places(module: nn.Module, model: nn.Module, stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """Name within `module` → place, for every parameter and buffer that `model` stores.

    Raises ModelFilesError for a parameter without a place, whose values would be lost."""
    named = {id(t): name for name, t in _tensors(model).items()}
    found = {}
    for inside, tensor in _tensors(module).items():
        name = named.get(id(tensor), inside)
        if name in stored:
            if stored[name].shape != tuple(tensor.shape):
                raise ModelFilesError(
                    f"{name} is {stored[name].shape} in {stored[name].file}, "
                    f"but {tuple(tensor.shape)} in the model",
                    field="weights",
                )
            found[inside] = stored[name]
        elif isinstance(tensor, nn.Parameter):
            raise ModelFilesError(f"{name} is in none of the weight files", field="weights")
    return found


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def attach(model: ir.Model, found: Mapping[str, Stored], folder: Path) -> int:
    """Make initialisers refer to the weight files under their stored names. A Cast restores the graph's type
    if the file has another, and a Mul applies the scale. Returns the number of initialisers."""
    graph, nodes = model.graph, list[ir.Node]()
    shared: dict[str, ir.Value] = {}
    for inside, place in found.items():
        value = graph.initializers.get(inside)
        if value is None:
            continue  # not used by this graph
        del graph.initializers[inside]
        if place.name not in shared:  # otherwise it is one tensor under two names
            used = _initialiser(graph, place, folder, value.dtype, nodes)
            if place.scale is not None:
                scale = _initialiser(graph, place.scale, folder, value.dtype, nodes)
                used = _node(nodes, "Mul", [used, scale], f"{place.name}.mul", used)
            shared[place.name] = used
        value.replace_all_uses_with(shared[place.name])
    if nodes:
        graph.insert_before(graph[0], nodes)
    return len(shared)


def _initialiser(
    graph: ir.Graph, place: Stored, folder: Path, wanted: ir.DataType | None, nodes: list[ir.Node]
) -> ir.Value:
    kept, shape = TYPES[place.dtype], ir.Shape(place.shape)
    tensor = ir.ExternalTensor(
        place.file, place.offset, place.length, kept, shape=shape, name=place.name, base_dir=folder
    )
    raw = ir.Value(name=place.name, shape=shape, type=ir.TensorType(kept), const_value=tensor)
    graph.register_initializer(raw)
    if wanted is None or wanted == kept:
        return raw
    like = ir.Value(shape=shape, type=ir.TensorType(wanted))
    return _node(nodes, "Cast", [raw], f"{place.name}.cast", like, to=ir.AttrInt64("to", int(wanted)))


def _node(
    nodes: list[ir.Node], kind: str, inputs: list[ir.Value], name: str, like: ir.Value, **attributes: ir.Attr
) -> ir.Value:
    """The output of a new node, with the type and shape of `like`."""
    node = ir.node(kind, inputs, attributes, name=name)
    nodes.append(node)
    out = node.outputs[0]
    out.name, out.shape, out.type = name, like.shape, like.type
    return out
