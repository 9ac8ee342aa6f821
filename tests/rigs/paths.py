"""Where the checkout lies, whatever folder a test stands in."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
