"""LLaMA and CLIP on prompts: the same numbers as FramePack's and diffusers' own preparation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.companions.libraries import library
from engine.companions.text import LlamaClipText
from engine.errors import ModelFilesError
from tests.rigs.models import full_size

PROMPTS = ["a red fox", "Night falls over the city; neon {lights} reflect.", "", "word " * 300]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    full_size.write_llama(path, 32)
    full_size.write_clip(path, 16)
    return path


@pytest.fixture(scope="module")
def companion(folder: Path) -> LlamaClipText:
    return LlamaClipText.load(folder, device="cpu", dtype=torch.float32)


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "broken")
    return tmp_path / "broken"


def encoded(companion: LlamaClipText, prompts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    pairs = [companion.tokenize(p) for p in prompts]
    ids, mask = (torch.stack([torch.from_numpy(pair[i]) for pair in pairs]) for i in (0, 1))
    result: tuple[Tensor, Tensor, Tensor] = companion(ids, mask)
    return result


def oracle(folder: Path) -> tuple[Any, Any, Any, Any]:
    """The whole models and tokenizers, as diffusers' pipeline holds them."""
    transformers = library("transformers")
    llama = transformers.LlamaModel.from_pretrained(folder / "text_encoder").eval()
    clip = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder_2").eval()
    about = json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text())
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer" / "tokenizer.json"),
        padding_side="right",
        **{k: about[k] for k in ("bos_token", "pad_token")},
    )
    return llama, fast, clip, transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer_2")


@pytest.mark.slow
def test_sizes_are_read_from_the_files(companion: LlamaClipText) -> None:
    assert (companion.length, companion.tokens) == (95 + 256 + 77, 256)
    assert (companion.width, companion.pooled_width) == (32, 16)
    assert not any(p.requires_grad for p in companion.parameters())


def test_text_equals_what_diffusers_pipeline_prepares(folder: Path, companion: LlamaClipText) -> None:
    """Compared with its own encode_prompt on the same weights, all prompts in one batch."""
    llama, tokenizer, clip, tokenizer_2 = oracle(folder)
    pipeline = library("diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_framepack")
    cls = pipeline.HunyuanVideoFramepackPipeline
    pipe = SimpleNamespace(
        text_encoder=llama, tokenizer=tokenizer, text_encoder_2=clip, tokenizer_2=tokenizer_2
    )
    with torch.no_grad():
        states, mask = cls._get_llama_prompt_embeds(
            pipe, PROMPTS, pipeline.DEFAULT_PROMPT_TEMPLATE, device="cpu", dtype=torch.float32
        )
        pooled = cls._get_clip_prompt_embeds(pipe, PROMPTS, device="cpu", dtype=torch.float32)
    text, text_mask, ours = encoded(companion, PROMPTS)
    assert torch.equal(text_mask, mask.float())
    torch.testing.assert_close(text, states * mask[..., None], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours, pooled, atol=1e-5, rtol=1e-5)


def test_text_equals_what_framepack_prepares(folder: Path, companion: LlamaClipText) -> None:
    """One prompt at a time, cut at its true end, then zeros (encode_prompt_conds, crop_or_pad_yield_mask)."""
    llama, tokenizer, _, _ = oracle(folder)
    for prompt in PROMPTS:
        inputs = tokenizer(
            [full_size.template().format(prompt)],
            padding="max_length",
            max_length=351,
            truncation=True,
            return_tensors="pt",
        )
        end = int(inputs.attention_mask.sum())
        with torch.no_grad():
            out = llama(inputs.input_ids, attention_mask=inputs.attention_mask, output_hidden_states=True)
        text, mask, _ = encoded(companion, [prompt])
        torch.testing.assert_close(
            text[:, : end - 95], out.hidden_states[-3][:, 95:end], atol=1e-5, rtol=1e-5
        )
        assert mask.sum() == end - 95
        assert text[:, end - 95 :].abs().sum() == 0


def test_a_prompt_gives_the_same_states_alone_and_in_a_batch(companion: LlamaClipText) -> None:
    together = encoded(companion, PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        for one, all_ in zip(encoded(companion, [prompt]), together, strict=True):
            torch.testing.assert_close(one[0], all_[i], atol=1e-5, rtol=1e-5)


def test_words_matter_and_a_long_prompt_is_cut(companion: LlamaClipText) -> None:
    a, b = encoded(companion, ["a red fox"]), encoded(companion, ["a fox red"])
    assert not torch.allclose(a[0], b[0], atol=1e-3)
    assert not torch.allclose(a[2], b[2], atol=1e-3)
    ids, mask = companion.tokenize(PROMPTS[-1])
    assert ids.shape == mask.shape == (companion.length,)
    assert mask.all()


def test_spaces_survive_the_tokenizer(companion: LlamaClipText) -> None:
    """transformers 5 reads a byte-level LLaMA tokenizer as LLaMA 2's and drops every space (its #45488)."""
    with_space, without = (companion.tokenize(p)[1][:351].sum() for p in ("red fox", "redfox"))
    assert with_space == without + 1


@pytest.fixture
def spoil(broken: Path) -> Callable[[str], None]:
    def load(match: str) -> None:
        with pytest.raises(ModelFilesError, match=match) as e:
            LlamaClipText.load(broken, device="cpu", dtype=torch.float32)
        assert "hf download hunyuanvideo-community/HunyuanVideo --include" in e.value.message

    return load


def test_another_tokenizer_is_refused(broken: Path, spoil: Callable[[str], None]) -> None:
    tokenizer = full_size.llama_tokenizer()
    tokenizer.add_tokens(["Describe the video"])
    tokenizer.save(str(broken / "tokenizer" / "tokenizer.json"))
    spoil("splits the template into 93 ids instead of 95")


def test_a_corrupt_tokenizer_is_refused(broken: Path, spoil: Callable[[str], None]) -> None:
    (broken / "tokenizer" / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1")
    spoil("tokenizer cannot be read")


def test_a_missing_shard_is_named(broken: Path, spoil: Callable[[str], None]) -> None:
    next(iter(sorted((broken / "text_encoder").glob("model-00002*")))).unlink()
    spoil(r"missing: text_encoder/model-00002-of-0000\d\.safetensors")


def test_a_truncated_shard_is_refused(broken: Path, spoil: Callable[[str], None]) -> None:
    path = broken / "text_encoder_2" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    spoil("text_encoder_2 cannot be read as the CLIP-L text encoder")


def test_a_checkpoint_without_some_tensors_is_refused(broken: Path, spoil: Callable[[str], None]) -> None:
    config = broken / "text_encoder" / "config.json"
    about = json.loads(config.read_text())
    config.write_text(json.dumps(about | {"num_hidden_layers": 5}))
    spoil(r"lacks layers\.4\.")


def test_too_few_layers_are_refused(broken: Path, spoil: Callable[[str], None]) -> None:
    shutil.rmtree(broken / "text_encoder")
    full_size.write_llama(broken, 32, layers=2)
    spoil("has 2 layers, but at least 3 are needed")
