"""Helios' companions, tiny and random, in exactly the layout in which the public ones come."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from engine.companions.libraries import library
from tests.rigs.models.full_size import taehv_weights

SPECIAL = ["<pad>", "</s>", "<unk>"]


def write_companions(folder: Path, *, text_width: int = 20, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        write_tokenizer(folder)
        write_umt5(folder, text_width)
        write_vae(folder)
        save_file(taehv_weights(), folder / "taew2_1.safetensors")
    return folder


def write_tokenizer(folder: Path) -> None:
    """A unigram of characters and a few words, padded and ended as T5's."""
    letters = [chr(c) for c in range(33, 127)] + ["▁"]
    words = ["▁a", "▁red", "▁fox", "▁snow", "é"]
    vocabulary = [(t, 0.0) for t in SPECIAL] + [(t, -8.0) for t in letters] + [(w, -3.0) for w in words]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    (folder / "tokenizer").mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "unk_token": SPECIAL[2],
    }
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(about))


def write_umt5(folder: Path, width: int) -> None:
    transformers = library("transformers")
    config = transformers.UMT5Config(
        vocab_size=128, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=2
    )
    model = transformers.UMT5EncoderModel(config).eval()
    for p in model.parameters():
        if p.ndim > 1:
            p.data = torch.randn_like(p) * 0.3
    model.save_pretrained(folder / "text_encoder", safe_serialization=True, max_shard_size="10KB")


def write_vae(folder: Path) -> None:
    vae = library("diffusers").AutoencoderKLWan(base_dim=4, num_res_blocks=1).eval()
    vae.save_pretrained(folder / "vae", safe_serialization=True)
