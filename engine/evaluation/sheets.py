"""Contact sheets: strips of pictures with labels, so that people can check the figures by eye.

Draws with Pillow; knows nothing about the figures.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from engine.evaluation.figure import Strip

LABEL_PX = 256
LABEL_CHARACTERS = 46
GAP_PX = 4
LINE_PX = 12
PER_LINE = 27  # characters under a picture
PAPER, INK, GREY, RIGHT, WRONG = "#ffffff", "#111111", "#666666", "#1a7f37", "#c62828"


def strip_image(strip: Strip) -> Image.Image:
    """The pictures at their own size, with the label to their left and their texts below."""
    height, width = strip.shots[0].picture.shape[1:]
    words = [_lines(shot.text) for shot in strip.shots]
    below = LINE_PX * max(map(len, words)) + GAP_PX
    size = (LABEL_PX + len(words) * (width + GAP_PX), height + below + GAP_PX)
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    for i, line in enumerate(_lines(strip.label, LABEL_CHARACTERS)[: size[1] // LINE_PX]):
        draw.text((2, i * LINE_PX), line, INK, font)
    for i, (shot, lines) in enumerate(zip(strip.shots, words, strict=True)):
        x = LABEL_PX + i * (width + GAP_PX)
        sheet.paste(Image.fromarray(shot.picture.permute(1, 2, 0).numpy()), (x, 0))
        ink = INK if shot.right is None else RIGHT if shot.right else WRONG
        for j, line in enumerate(lines):
            draw.text((x, height + 1 + j * LINE_PX), line, ink, font)
    return sheet


def _lines(text: str, characters: int = PER_LINE) -> list[str]:
    text = _plain(text)
    return [part for line in text.split("\n") for part in textwrap.wrap(line, characters) or [""]]


def _plain(text: str) -> str:
    """The text in ASCII, since Pillow's default font has little more."""
    for sign, word in (("−", "-"), ("Δ", "delta"), ("→", "->"), ("×", "x")):
        text = text.replace(sign, word)
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def compose(out: Path, title: str, about: str, strips: Sequence[Path]) -> None:
    """Write one sheet of many strips, stacked below a heading."""
    images = [Image.open(path).convert("RGB") for path in strips]
    width = max(480, *(image.width for image in images))
    lines = textwrap.wrap(_plain(about), max(60, width // 6))
    top = 24 + LINE_PX * len(lines) + 8
    sheet = Image.new("RGB", (width, top + sum(image.height + GAP_PX for image in images)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 2), _plain(title), INK, ImageFont.load_default(size=15))
    for i, line in enumerate(lines):
        draw.text((4, 24 + i * LINE_PX), line, GREY, ImageFont.load_default(size=10))
    y = top
    for image in images:
        sheet.paste(image, (0, y))
        y += image.height + GAP_PX
    sheet.save(out)
