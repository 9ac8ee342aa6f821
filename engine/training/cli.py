"""`psistream train STAGE`: each stage of the built-in model, from nothing but this repository.

Order: autoencoder, then text and dit (they need not wait for each other), then `psistream export onnx`. Every
stage resumes where its run folder left off; `--minutes` is the whole budget of the stage, earlier sittings
included.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from engine.errors import PsistreamError

STAGES = ("autoencoder", "text", "dit", "decoder", "probe")


def stage(name: str) -> Callable[[argparse.Namespace], object]:
    """The stage's work; torch is imported only here."""
    from engine.model.autoencoder import AutoencoderConfig
    from engine.model.config import ModelConfig, PackingConfig
    from engine.training.autoencoder import load_autoencoder, train_autoencoder, train_decoder
    from engine.training.teacher_forcing import train_dit
    from engine.training.text import train_text

    def dit(a: argparse.Namespace) -> object:
        config = ModelConfig(packing=PackingConfig(anchor_kernel="2x"))
        return train_dit(a.run, config, minutes=a.minutes, seed=a.seed, lr=a.lr or 1e-3)

    def decoder(a: argparse.Namespace) -> object:
        config = AutoencoderConfig(decoder_fine=96, decoder_coarse=160, decoder_blocks=3)
        return train_decoder(a.run, config, minutes=a.minutes, seed=a.seed, lr=a.lr or 1.5e-3)

    def probe(a: argparse.Namespace) -> object:
        from engine.evaluation.probe import train_probe

        return train_probe(a.run, load_autoencoder(a.run), minutes=a.minutes, seed=a.seed)

    return {
        "autoencoder": lambda a: train_autoencoder(a.run, minutes=a.minutes, seed=a.seed, lr=a.lr or 1.5e-3),
        "text": lambda a: train_text(a.run, minutes=a.minutes, seed=a.seed, lr=a.lr or 1e-3),
        "dit": dit,
        "decoder": decoder,
        "probe": probe,
    }[name]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="psistream train", description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument(
        "--run", type=Path, default=Path("runs/wander"), help="folder of checkpoints and curves"
    )
    parser.add_argument(
        "--minutes", type=float, required=True, help="budget of the stage, all sittings together"
    )
    parser.add_argument("--lr", type=float, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    args = parser.parse_args(argv)
    if args.minutes <= 0:
        parser.error("--minutes must be above 0")
    try:
        import torch

        if args.threads:
            torch.set_num_threads(args.threads)
        stage(args.stage)(args)
    except ModuleNotFoundError as e:
        print(f"psistream train needs {e.name}: pip install 'psistream[train]'", file=sys.stderr)
        return 1
    except FileNotFoundError as e:
        print(f"{e.filename} not found: train the earlier stage first", file=sys.stderr)
        return 1
    except PsistreamError as e:
        print(e.message, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command to go on", file=sys.stderr)
        return 130
    return 0
