"""Turns a terminal's bytes into keys, and keys into held actions. Pure: no terminal and no clock of its own.

Terminals report key presses and repeats, but no releases. An action is therefore held until some time after
the last repeat. The first time span is longer, since keyboards start to repeat after a delay.
"""

from __future__ import annotations

import codecs

FIRST_HOLD_S = 0.55
HOLD_S = 0.35

_SEQUENCES = {"A": "up", "B": "down", "C": "right", "D": "left"}
_CONTROLS = {
    "\r": "enter",
    "\n": "enter",
    "\t": "tab",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x03": "quit",
    "\x0e": "now",
}

USUAL = {"left": "left", "right": "right", "up": "jump", " ": "jump", "down": "idle"}


def actions_of_keys(actions: object) -> dict[str, str]:
    """Key → action for a model with these actions, as the session's state lists them. Known actions have
    their usual keys; others get free arrow keys and then digits. Without a list, the usual keys apply."""
    if not isinstance(actions, list) or not actions:
        return USUAL
    keys = {key: action for key, action in USUAL.items() if action in actions}
    others = [str(action) for action in actions if action not in USUAL.values()]
    free = [key for key in ("left", "right", "up", "down", *"123456789") if key not in keys]
    return keys | dict(zip(free, others, strict=False))


class Keys:
    """Decodes what a terminal sends: arrows, a few named keys, and characters in UTF-8."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sequence = ""  # an incomplete escape sequence

    @property
    def waiting(self) -> bool:
        """Whether an escape is pending: the key itself, or the start of a sequence. See `flush`."""
        return bool(self._sequence)

    def feed(self, data: bytes) -> list[str]:
        """The keys in `data`: "left", "enter", … or one character each."""
        keys = [key for character in self._decoder.decode(data) for key in self._take(character)]
        return [key for key in keys if key]

    def flush(self) -> list[str]:
        """Call this if nothing has followed for ESCAPE_S: the byte was the Esc key."""
        pending, self._sequence = self._sequence, ""
        return ["escape"] if pending else []

    def _take(self, character: str) -> list[str]:
        if self._sequence:
            return self._continue(character)
        if character == "\x1b":
            self._sequence = character
            return []
        if character in _CONTROLS:
            return [_CONTROLS[character]]
        return [character] if character.isprintable() else []

    def _continue(self, character: str) -> list[str]:
        """CSI is ESC [ parameters letter, SS3 is ESC O letter. Unknown sequences are ignored."""
        if self._sequence == "\x1b":
            if character in "[O":
                self._sequence += character
                return []
            self._sequence = ""
            return ["escape", *self._take(character)]
        if "\x20" <= character <= "\x3f" and len(self._sequence) < 16:
            self._sequence += character
            return []
        self._sequence = ""
        return [_SEQUENCES.get(character, "")]


class HeldAction:
    """The held action, as the server should know it."""

    def __init__(self) -> None:
        self.current: str | None = None
        self._until_s = 0.0

    def press(self, action: str, now_s: float) -> bool:
        """A key was pressed or repeats. Returns whether the held action changes."""
        changed = action != self.current
        self.current = action
        self._until_s = max(0.0 if changed else self._until_s, now_s + (FIRST_HOLD_S if changed else HOLD_S))
        return changed

    def expire(self, now_s: float) -> bool:
        """Whether the key has been released by now; `current` is then None."""
        if self.current is None or now_s < self._until_s:
            return False
        self.current = None
        return True
