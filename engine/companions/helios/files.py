"""The parts of Helios' folder: the files of each, their source and licence.

    DIR/config.json, DIR/model*.safetensors      the transformer (converted)
    DIR/text_encoder/, DIR/tokenizer/            UMT5-XXL and its tokenizer
    DIR/vae/                                     Wan 2.1's autoencoder
    DIR/taew2_1.safetensors or .pth              TAEW2.1, the fast decoder

Does not import torch. Layout: `HeliosPyramidPipeline` of diffusers 0.42 and github.com/madebyollin/taehv.
Sizes: two bytes per parameter. Parts that are published in fp32, such as the transformer, are downloads of
twice that size.
"""

from __future__ import annotations

from engine.companions.catalogue import Catalogue, CompanionPart

HELIOS = "BestWishYsh/Helios-Distilled"
APACHE = "Apache License 2.0"
TAEW = "taew2_1"
TAEW_URL = f"https://github.com/madebyollin/taehv/raw/main/safetensors/{TAEW}.safetensors"
LICENCE = f"{APACHE} (from the model card of Helios-Base; that of Helios-Distilled was not checked)"

CHECKPOINT = Catalogue(
    "Helios-Distilled's checkpoint",
    {
        "transformer": CompanionPart(
            "the Helios-Distilled transformer in fp32",
            ("transformer/config.json", "transformer/diffusion_pytorch_model*.safetensors"),
            HELIOS,
            LICENCE,
            57250,
        ),
    },
)
CATALOGUE = Catalogue(
    "Helios",
    {
        "transformer": CompanionPart(
            "the Helios-Distilled transformer",
            ("config.json", "model*.safetensors"),
            HELIOS,
            LICENCE,
            28625,
            include="transformer/*",
            target="-checkpoint",
            then="psistream convert helios {target} {folder}",
        ),
        "text_encoder": CompanionPart(
            "the UMT5-XXL text encoder",
            ("text_encoder/config.json", "text_encoder/model*.safetensors"),
            HELIOS,
            f"{APACHE} (Google UMT5)",
            11362,
        ),
        "tokenizer": CompanionPart(
            "UMT5's tokenizer", ("tokenizer/tokenizer.json",), HELIOS, f"{APACHE} (Google UMT5)", 17
        ),
        "vae": CompanionPart(
            "Wan 2.1's autoencoder",
            ("vae/config.json", "vae/diffusion_pytorch_model*.safetensors"),
            HELIOS,
            f"{APACHE} (Wan 2.1)",
            254,
        ),
        TAEW: CompanionPart(
            "TAEW2.1, the fast decoder for Wan 2.1",
            (f"{TAEW}.safetensors|{TAEW}.pth",),
            TAEW_URL,
            "MIT (Ollin Boer Bohan)",
            23,
        ),
    },
)
