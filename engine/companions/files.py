"""What the full-size model's folder must hold: each part, where it comes from, under which licence.

    DIR/config.json, DIR/model*.safetensors      the transformer, our names (converted)
    DIR/text_encoder/, DIR/tokenizer/            LLaMA and its tokenizer
    DIR/text_encoder_2/, DIR/tokenizer_2/        CLIP-L and its tokenizer
    DIR/image_encoder/, DIR/feature_extractor/   SigLIP and its preprocessing
    DIR/vae/                                     HunyuanVideo's autoencoder
    DIR/taehv.safetensors or DIR/taehv.pth       TAEHV, the fast decoder

Nothing here downloads anything: a missing part is an error with the command that fetches it. No torch here.
Repository names and layouts: github.com/lllyasviel/FramePack (demo_gradio_f1.py) and
github.com/madebyollin/taehv. Sizes: two bytes per parameter, counted from the public configurations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from engine.errors import InvalidInput, ModelFilesError

TENCENT = (
    "Tencent Hunyuan Community License, which does not apply in the European Union, the United Kingdom and "
    "South Korea"
)
LLAMA = "Meta Llama 3 Community License"
HUNYUAN = "hunyuanvideo-community/HunyuanVideo"
FRAMEPACK = "lllyasviel/FramePack_F1_I2V_HY_20250503"
SIGLIP = "lllyasviel/flux_redux_bfl"
TAEHV_URL = "https://github.com/madebyollin/taehv/raw/main/safetensors/taehv.safetensors"


@dataclass(frozen=True)
class Part:
    """`files`: paths below the folder, `*` allowed, `|` between alternatives, all of them needed."""

    what: str
    files: tuple[str, ...]
    source: str  # a repository on Hugging Face, or a URL
    licence: str
    megabytes: int
    target: str = ""  # where the download goes if not to the folder itself
    then: str = ""  # what to do with the download


PARTS: dict[str, Part] = {
    "transformer": Part(
        "the FramePack-F1 transformer",
        ("config.json", "model*.safetensors"),
        FRAMEPACK,
        f"fine-tuned from HunyuanVideo: {TENCENT}",
        25749,
        target="-checkpoint",
        then="psistream convert framepack-f1 {target} {folder}",
    ),
    "text_encoder": Part(
        "the LLaMA text encoder",
        ("text_encoder/config.json", "text_encoder/model*.safetensors"),
        HUNYUAN,
        f"{LLAMA}; the repository: {TENCENT}",
        15010,
    ),
    "tokenizer": Part(
        "LLaMA's tokenizer",
        ("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
        HUNYUAN,
        LLAMA,
        9,
    ),
    "text_encoder_2": Part(
        "the CLIP-L text encoder",
        ("text_encoder_2/config.json", "text_encoder_2/model*.safetensors"),
        HUNYUAN,
        "MIT (OpenAI CLIP)",
        246,
    ),
    "tokenizer_2": Part(
        "CLIP's tokenizer",
        (
            "tokenizer_2/tokenizer.json|tokenizer_2/vocab.json",
            "tokenizer_2/tokenizer.json|tokenizer_2/merges.txt",
        ),
        HUNYUAN,
        "MIT (OpenAI CLIP)",
        2,
    ),
    "image_encoder": Part(
        "the SigLIP image encoder",
        ("image_encoder/config.json", "image_encoder/model*.safetensors"),
        SIGLIP,
        "Apache 2.0 (Google SigLIP so400m); the rest of that repository is not needed",
        856,
    ),
    "feature_extractor": Part(
        "SigLIP's preprocessing",
        ("feature_extractor/preprocessor_config.json",),
        SIGLIP,
        "Apache 2.0 (Google SigLIP so400m)",
        1,
    ),
    "vae": Part(
        "HunyuanVideo's autoencoder",
        ("vae/config.json", "vae/diffusion_pytorch_model*.safetensors"),
        HUNYUAN,
        TENCENT,
        493,
    ),
    "taehv": Part(
        "TAEHV, the fast decoder",
        ("taehv.safetensors|taehv.pth",),
        TAEHV_URL,
        "MIT (Ollin Boer Bohan)",
        23,
    ),
}


def require(folder: Path, *parts: str) -> None:
    """All files of these parts are in `folder`; without `parts`, all of the full-size model.

    Raises ModelFilesError that lists all missing parts at once: what each is, its size, its licence, and the
    command that fetches it. Raises InvalidInput for an unknown part."""
    for part in parts:
        if part not in PARTS:
            raise InvalidInput(f"unknown part {part!r}; known are {list(PARTS)}", field="parts")
    if not folder.is_dir():
        raise ModelFilesError(
            f"there is no folder {folder}; make it and fetch the full-size model's parts into it:\n"
            + _list(folder, parts or PARTS, {}),
            field=str(folder),
        )
    lacking = {part: missing(folder, part) for part in parts or PARTS}
    lacking = {part: names for part, names in lacking.items() if names}
    if lacking:
        raise ModelFilesError(
            f"{folder} lacks parts of the full-size model; nothing is fetched without you:\n"
            + _list(folder, lacking, lacking),
            field=next(iter(lacking)),
        )


def missing(folder: Path, part: str) -> list[str]:
    """The files of `part` that `folder` lacks; of sharded weights also each shard that the index names."""
    names = [name for name in PARTS[part].files if not any(_found(folder, n) for n in name.split("|"))]
    for name in PARTS[part].files:
        if name.endswith("*.safetensors"):
            names += _missing_shards(folder, name.removesuffix("*.safetensors") + ".safetensors.index.json")
    return names


def fetch(part: str, folder: Path) -> str:
    """The commands that fetch `part` into `folder`, on one line."""
    p = PARTS[part]
    if p.source.startswith("https://"):
        return f"curl -L --fail -o {quote(str(folder / Path(p.source).name))} {p.source}"
    target = quote(str(folder) + p.target)
    include = "" if p.target else f" --include {quote(part + '/*')}"
    then = f" && {p.then.format(target=target, folder=quote(str(folder)))}" if p.then else ""
    return f"hf download {p.source}{include} --local-dir {target}{then}"


def _found(folder: Path, name: str) -> bool:
    return any(path.is_file() for path in folder.glob(name))


def _missing_shards(folder: Path, index: str) -> list[str]:
    path = folder / index
    if not path.is_file():
        return []
    try:
        shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise ModelFilesError(f"{path} is not an index of weights ({e}); fetch it again", field=index) from e
    return sorted(str(Path(index).parent / s) for s in shards if not (path.parent / str(s)).is_file())


def _list(folder: Path, parts: Iterable[str], lacking: dict[str, list[str]]) -> str:
    lines = []
    for part in parts:
        p = PARTS[part]
        size = f"{p.megabytes / 1000:.1f} GB" if p.megabytes >= 1000 else f"{p.megabytes} MB"
        names = ", ".join(n.replace("|", " or ") for n in lacking.get(part, p.files))
        lines += [
            f"  {part}: {p.what}, {size}, {p.licence}",
            f"    missing: {names}",
            f"    {fetch(part, folder)}",
        ]
    return "\n".join(lines)
