"""The parts of FramePack's folder: the files of each, their source and licence.

    DIR/config.json, DIR/model*.safetensors      the transformer, our names (converted)
    DIR/text_encoder/, DIR/tokenizer/            LLaMA and its tokenizer
    DIR/text_encoder_2/, DIR/tokenizer_2/        CLIP-L and its tokenizer
    DIR/image_encoder/, DIR/feature_extractor/   SigLIP and its preprocessing
    DIR/vae/                                     HunyuanVideo's autoencoder
    DIR/taehv.safetensors or DIR/taehv.pth       TAEHV, the fast decoder

Does not import torch. Repository names and layouts: github.com/lllyasviel/FramePack (demo_gradio_f1.py) and
github.com/madebyollin/taehv. Sizes: two bytes per parameter, counted from the public configurations.
"""

from __future__ import annotations

from engine.companions.catalogue import Catalogue, CompanionPart

TENCENT = (
    "Tencent Hunyuan Community License, which does not apply in the European Union, the United Kingdom and "
    "South Korea"
)
LLAMA = "Meta Llama 3 Community License"
HUNYUAN = "hunyuanvideo-community/HunyuanVideo"
FRAMEPACK = "lllyasviel/FramePack_F1_I2V_HY_20250503"
SIGLIP = "lllyasviel/flux_redux_bfl"
TAEHV_URL = "https://github.com/madebyollin/taehv/raw/main/safetensors/taehv.safetensors"


PARTS = {
    "transformer": CompanionPart(
        "the FramePack-F1 transformer",
        ("config.json", "model*.safetensors"),
        FRAMEPACK,
        f"fine-tuned from HunyuanVideo: {TENCENT}",
        25749,
        target="-checkpoint",
        then="psistream convert framepack-f1 {target} {folder}",
    ),
    "text_encoder": CompanionPart(
        "the LLaMA text encoder",
        ("text_encoder/config.json", "text_encoder/model*.safetensors"),
        HUNYUAN,
        f"{LLAMA}; the repository: {TENCENT}",
        15010,
    ),
    "tokenizer": CompanionPart(
        "LLaMA's tokenizer",
        ("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
        HUNYUAN,
        LLAMA,
        9,
    ),
    "text_encoder_2": CompanionPart(
        "the CLIP-L text encoder",
        ("text_encoder_2/config.json", "text_encoder_2/model*.safetensors"),
        HUNYUAN,
        "MIT (OpenAI CLIP)",
        246,
    ),
    "tokenizer_2": CompanionPart(
        "CLIP's tokenizer",
        (
            "tokenizer_2/tokenizer.json|tokenizer_2/vocab.json",
            "tokenizer_2/tokenizer.json|tokenizer_2/merges.txt",
        ),
        HUNYUAN,
        "MIT (OpenAI CLIP)",
        2,
    ),
    "image_encoder": CompanionPart(
        "the SigLIP image encoder",
        ("image_encoder/config.json", "image_encoder/model*.safetensors"),
        SIGLIP,
        "Apache 2.0 (Google SigLIP so400m); the rest of that repository is not needed",
        856,
    ),
    "feature_extractor": CompanionPart(
        "SigLIP's preprocessing",
        ("feature_extractor/preprocessor_config.json",),
        SIGLIP,
        "Apache 2.0 (Google SigLIP so400m)",
        1,
    ),
    "vae": CompanionPart(
        "HunyuanVideo's autoencoder",
        ("vae/config.json", "vae/diffusion_pytorch_model*.safetensors"),
        HUNYUAN,
        TENCENT,
        493,
    ),
    "taehv": CompanionPart(
        "TAEHV, the fast decoder for HunyuanVideo",
        ("taehv.safetensors|taehv.pth",),
        TAEHV_URL,
        "MIT (Ollin Boer Bohan)",
        23,
    ),
}
CATALOGUE = Catalogue("the full-size model", PARTS)
require, missing, fetch = CATALOGUE.require, CATALOGUE.missing, CATALOGUE.fetch
