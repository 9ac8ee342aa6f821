"""Share links: tokens that let others steer or watch a session for a limited time.

A link expires by itself and can be ended earlier. It ends with its session. Their number is bounded.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from engine.errors import InvalidInput, UnknownSession
from server.access.tokens import hash_of

LinkRole = Literal["driver", "viewer"]
MOST = 64
LINK_MARK = "link-"  # prefix of their tokens
Noted = Callable[[str, bool], None]  # the hash of a link's token, and whether the session has it now


@dataclass(frozen=True)
class ShareLink:
    id: str
    role: LinkRole
    token_hash: str = field(repr=False)
    ends_s: float  # on the clock that all sessions share


class Links:
    """The share links of one session. Callers pass the time."""

    def __init__(self) -> None:
        self._links: dict[str, ShareLink] = {}  # by the hash of the token
        self._noted: Noted | None = None

    def report_to(self, noted: Noted | None) -> None:
        """Who is told of each link that is added or removed, and at once of those that there are; the one
        before is told that all are removed."""
        for before in list(self._links):
            self._note(before, there=False)
        self._noted = noted
        for name in self._links:
            self._note(name, there=True)

    def make(self, role: LinkRole, for_s: float, now_s: float) -> tuple[ShareLink, str]:
        """Create a link that is valid for `for_s` seconds. Returns its token too, which is not stored. Raises
        InvalidInput if there are too many."""
        if len(self.all(now_s)) >= MOST:
            raise InvalidInput(
                f"this session has {MOST} links, which is the limit: end one, or wait until one expires",
                field="links",
            )
        token = LINK_MARK + secrets.token_urlsafe(24)
        link = ShareLink(secrets.token_hex(4), role, hash_of(token), now_s + for_s)
        self.add(link)
        return link, token

    def add(self, link: ShareLink) -> None:
        """Add a link that was made elsewhere."""
        self._links[link.token_hash] = link
        self._note(link.token_hash, there=True)

    def clear(self) -> None:
        """Remove all of them."""
        for name in list(self._links):
            self._remove(name)

    def all(self, now_s: float) -> list[ShareLink]:
        """The valid links. Expired ones are removed."""
        for link in list(self._links.values()):
            if link.ends_s <= now_s:
                self._remove(link.token_hash)
        return list(self._links.values())

    def find(self, token_hash: str, now_s: float) -> ShareLink | None:
        link = self._links.get(token_hash)
        return link if link is not None and link.ends_s > now_s else None

    def end(self, link_id: str, now_s: float) -> None:
        """End a link. Raises UnknownSession if there is none with this id."""
        link = next((link for link in self.all(now_s) if link.id == link_id), None)
        if link is None:
            raise UnknownSession("this session has no link with this id; it may have ended", field="link")
        self._remove(link.token_hash)

    def _remove(self, token_hash: str) -> None:
        del self._links[token_hash]
        self._note(token_hash, there=False)

    def _note(self, token_hash: str, *, there: bool) -> None:
        if self._noted is not None:
            self._noted(token_hash, there)
