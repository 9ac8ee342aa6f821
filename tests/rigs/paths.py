"""The root of the checkout, independent of the current directory."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
