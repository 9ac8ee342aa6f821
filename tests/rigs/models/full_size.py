"""The full-size model's companions, tiny and random, in exactly the layout in which the public ones come.

Less than a megabyte instead of 16 GB, written in about a second. Widths are parameters, so that a small
transformer fits them; what the code takes from FramePack (template, lengths, keys) is as in public.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor

from engine.companions.libraries import library

SPECIAL = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<pad>"]
CHANNELS = 16
PATCH = 14
TAEHV_WIDTHS = (16, 12, 8, 8)


def write_tiny_companions(
    folder: Path,
    *,
    text_width: int = 32,
    pooled_width: int = 16,
    image_width: int = 24,
    image_size: int = 56,
    taehv_widths: tuple[int, int, int, int] = TAEHV_WIDTHS,
    seed: int = 0,
) -> Path:
    """All companions below `folder`: text of `text_width`, pooled prompt of `pooled_width`, image tokens of
    `image_width`, (image_size / 14)² of them. Any picture size whose sides are multiples of 8 works."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        write_llama(folder, text_width)
        write_clip(folder, pooled_width)
        write_siglip(folder, image_width, image_size)
        write_vae(folder)
        save_file(taehv_weights(taehv_widths), folder / "taehv.safetensors")
    return folder


def write_llama(folder: Path, width: int, *, layers: int = 4) -> None:
    """`text_encoder/`, in shards as the public one, and `tokenizer/`."""
    transformers = library("transformers")
    tokenizer = llama_tokenizer()
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        bos_token_id=tokenizer.token_to_id(SPECIAL[0]),
        eos_token_id=tokenizer.token_to_id(SPECIAL[3]),
    )
    _save(_louder(transformers.LlamaModel(config)), folder / "text_encoder", max_shard_size="40KB")
    (folder / "tokenizer").mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    about = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": SPECIAL[0],
        "eos_token": "<|end_of_text|>",
        "pad_token": "<pad>",
        "model_max_length": 8192,
        "padding_side": "right",
    }
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(about))


def llama_tokenizer() -> Tokenizer:
    """Byte-level BPE as LLaMA 3's: the words of FramePack's template are single tokens, others are bytes."""
    pieces = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+"), behavior="isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words = {piece for text in _plain_parts(template()) for piece, _ in pieces.pre_tokenize_str(text)}
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *sorted(w for w in words if len(w) > 1)]
    bpe = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[], ignore_merges=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], tokenizer.token_to_id(SPECIAL[0]))]
    )
    return tokenizer


def template() -> str:
    pipeline = library("diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video")
    return str(pipeline.DEFAULT_PROMPT_TEMPLATE["template"])


def write_clip(folder: Path, width: int) -> None:
    """`text_encoder_2/` and `tokenizer_2/`, the latter as vocab.json and merges.txt."""
    transformers = library("transformers")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("f", "o"), ("fo", "x</w>"), ("r", "e"), ("re", "d</w>")]
    joined = [a + b for a, b in merges]
    words = [*alphabet, *(a + "</w>" for a in alphabet), *joined, "<|startoftext|>", "<|endoftext|>"]
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=width,
        bos_token_id=0,  # as in the public file: wrong, and harmless
        eos_token_id=2,
        pad_token_id=1,
    )
    _save(_louder(transformers.CLIPTextModel(config)), folder / "text_encoder_2")
    tokenizer = folder / "tokenizer_2"
    tokenizer.mkdir(exist_ok=True)
    (tokenizer / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    about = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": 77,
    }
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(about))


def write_siglip(folder: Path, width: int, size: int) -> None:
    """`image_encoder/` and `feature_extractor/`."""
    transformers = library("transformers")
    config = transformers.SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=size,
        patch_size=PATCH,
        hidden_act="gelu_pytorch_tanh",
    )
    _save(_louder(transformers.SiglipVisionModel(config)), folder / "image_encoder")
    about = {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": size, "width": size},
    }
    (folder / "feature_extractor").mkdir(exist_ok=True)
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(about))


def write_vae(folder: Path) -> None:
    """`vae/`: all strides of the public one, four channels wide."""
    vae = library("diffusers").AutoencoderKLHunyuanVideo(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
    )
    for p in vae.decoder.conv_out.parameters():
        p.data *= 0.3  # frames within black and white
    _save(vae, folder / "vae")


def taehv_weights(widths: tuple[int, int, int, int] = TAEHV_WIDTHS) -> dict[str, Tensor]:
    """Keys and shapes of madebyollin/taehv's taehv.pth for other widths; its encoder's first layer too."""
    g = torch.Generator().manual_seed(5)
    weights: dict[str, Tensor] = {}

    def conv(key: str, out: int, inside: int, kernel: int = 3, *, bias: bool = True) -> None:
        scale = (inside * kernel**2) ** -0.5
        weights[f"{key}.weight"] = torch.randn(out, inside, kernel, kernel, generator=g) * scale
        if bias:
            weights[f"{key}.bias"] = torch.randn(out, generator=g) * 0.1

    conv("encoder.0", 8, 3)
    conv("decoder.1", widths[0], CHANNELS)
    first, grow = (3, 9, 15), (1, 2, 2)
    for level, (start, repeat) in enumerate(zip(first, grow, strict=True)):
        width = widths[level]
        for block in range(start, start + 3):
            conv(f"decoder.{block}.conv.0", width, 2 * width)
            conv(f"decoder.{block}.conv.2", width, width)
            conv(f"decoder.{block}.conv.4", width, width)
        conv(f"decoder.{start + 4}.conv", repeat * width, width, 1, bias=False)
        conv(f"decoder.{start + 5}", widths[level + 1], width, bias=False)
    conv("decoder.22", 3, widths[3])
    return weights


def _plain_parts(text: str) -> list[str]:
    """`text` without its special tokens and the place of the prompt."""
    for special in [*SPECIAL, "{}"]:
        text = text.replace(special, "\0")
    return [part for part in text.split("\0") if part]


def _louder(model: Any) -> Any:
    """Default initialisations are so small that hardly any layer matters; tests should notice every one."""
    for p in model.parameters():
        if p.ndim > 1:
            p.data *= 5
    return model


def _save(model: Any, path: Path, **options: Any) -> None:
    model.eval().save_pretrained(path, safe_serialization=True, **options)
