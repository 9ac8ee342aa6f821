"""SDP as lines of text: media sections and their attributes, without their meaning (RFC 8866)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from engine.errors import InvalidInput

MEDIA = re.compile(r"m=(\S+) (\d{1,5})(?:/\d+)? (\S+) (\S.*)")
TRANSPORT = ("ice-ufrag", "ice-pwd", "ice-options", "fingerprint", "setup")
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


@dataclass(frozen=True)
class MediaSection:
    """One m= section. `lines` are those below the m= line."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    lines: tuple[str, ...]

    def values(self, name: str) -> Iterator[str]:
        """The values of every `a=name:value` line; an empty string for `a=name`."""
        for line in self.lines:
            if line == f"a={name}":
                yield ""
            elif line.startswith(f"a={name}:"):
                yield line[len(name) + 3 :].strip()

    def value(self, name: str) -> str | None:
        return next(self.values(name), None)

    def of_format(self, name: str, format_: str) -> Iterator[str]:
        """Values that belong to one payload type: `a=rtpmap:96 VP8/90000` → `VP8/90000`."""
        for value in self.values(name):
            number, _, rest = value.partition(" ")
            if number == format_:
                yield rest.strip()

    @property
    def mid(self) -> str:
        return self.value("mid") or ""

    @property
    def direction(self) -> str:
        return next((d for d in DIRECTIONS if self.value(d) is not None), "sendrecv")

    @property
    def offered(self) -> bool:
        """Whether it may be accepted: port 0 rejects a section unless it shares another one's transport."""
        return self.port != 0 or self.value("bundle-only") is not None

    def media_line(self, port: int | None = None) -> str:
        shown = self.port if port is None else port
        return f"m={self.kind} {shown} {self.protocol} {' '.join(self.formats)}"


@dataclass(frozen=True)
class Description:
    session: tuple[str, ...]  # lines above the first media section
    parts: tuple[MediaSection, ...]

    @property
    def bundles(self) -> list[list[str]]:
        """The mids of each group of sections that share a transport."""
        start = "a=group:BUNDLE"
        return [line[len(start) :].split() for line in self.session if line.startswith(start)]


def parse(text: str) -> Description:
    """Raises InvalidInput for a malformed m= line."""
    lines = [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("m=")]
    parts = []
    for start, end in pairwise([*starts, len(lines)]):
        found = MEDIA.fullmatch(lines[start])
        if found is None:
            raise InvalidInput(f"the SDP cannot be parsed: {lines[start][:60]!r} is no m= line", field="sdp")
        kind, port, protocol, formats = found.groups()
        parts.append(
            MediaSection(kind, int(port), protocol, tuple(formats.split()), tuple(lines[start + 1 : end]))
        )
    return Description(tuple(lines[: starts[0] if starts else len(lines)]), tuple(parts))


def text(lines: list[str]) -> str:
    return "\r\n".join(lines) + "\r\n"
