"""What the checks of orders, events and reports share: a value is refused by the name of its field."""

from __future__ import annotations

from engine.errors import InvalidInput


class Expected:
    """`nobody` says who sends no such value: "gateway sends"."""

    def __init__(self, nobody: str) -> None:
        self._nobody = nobody

    def require(self, ok: bool, field: str) -> None:
        """Raises InvalidInput."""
        if not ok:
            raise InvalidInput(f"{field} has a value that no {self._nobody}", field=field)

    def text(self, text: str, most: int, field: str) -> None:
        """Printable, and 1 to `most` characters. Raises InvalidInput."""
        self.require(0 < len(text) <= most and text.isprintable(), field)
