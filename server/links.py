"""Links that give a session away for a while: each has a token of its own that steers or only watches, and
that ends by itself, or earlier by hand. Bounded. They end with their session."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Literal

from engine.errors import InvalidInput, UnknownSession

LinkRole = Literal["driver", "viewer"]
MOST = 64
LINK_MARK = "link-"  # how their tokens begin


@dataclass(frozen=True)
class ShareLink:
    id: str
    role: LinkRole
    token: str = field(repr=False)
    ends_s: float  # by the clock that all sessions share


class Links:
    """Of one session. Every call is told the time."""

    def __init__(self) -> None:
        self._links: dict[str, ShareLink] = {}  # by token

    def make(self, role: LinkRole, for_s: float, now_s: float) -> ShareLink:
        """Raises InvalidInput if there are too many."""
        if len(self.all(now_s)) >= MOST:
            raise InvalidInput(
                f"this session has {MOST} links: end one, or wait for one to end", field="links"
            )
        link = ShareLink(secrets.token_hex(4), role, LINK_MARK + secrets.token_urlsafe(24), now_s + for_s)
        self._links[link.token] = link
        return link

    def all(self, now_s: float) -> list[ShareLink]:
        """Those that have not ended; the others are forgotten."""
        self._links = {token: link for token, link in self._links.items() if link.ends_s > now_s}
        return list(self._links.values())

    def find(self, token: str, now_s: float) -> ShareLink | None:
        link = self._links.get(token)
        return link if link is not None and link.ends_s > now_s else None

    def end(self, link_id: str, now_s: float) -> None:
        """Raises UnknownSession."""
        link = next((link for link in self.all(now_s) if link.id == link_id), None)
        if link is None:
            raise UnknownSession("this session has no link of this id; it may have ended", field="link")
        del self._links[link.token]
