"""Share links: tokens that let others steer or watch a session for a limited time.

A link expires by itself and can be ended earlier. It ends with its session. Their number is bounded.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Literal

from engine.errors import InvalidInput, UnknownSession

LinkRole = Literal["driver", "viewer"]
MOST = 64
LINK_MARK = "link-"  # prefix of their tokens


@dataclass(frozen=True)
class ShareLink:
    id: str
    role: LinkRole
    token: str = field(repr=False)
    ends_s: float  # on the clock that all sessions share


class Links:
    """The share links of one session. Callers pass the time."""

    def __init__(self) -> None:
        self._links: dict[str, ShareLink] = {}  # by token

    def make(self, role: LinkRole, for_s: float, now_s: float) -> ShareLink:
        """Create a link that is valid for `for_s` seconds. Raises InvalidInput if there are too many."""
        if len(self.all(now_s)) >= MOST:
            raise InvalidInput(
                f"this session has {MOST} links, which is the limit: end one, or wait until one expires",
                field="links",
            )
        link = ShareLink(secrets.token_hex(4), role, LINK_MARK + secrets.token_urlsafe(24), now_s + for_s)
        self._links[link.token] = link
        return link

    def all(self, now_s: float) -> list[ShareLink]:
        """The valid links. Expired ones are removed."""
        self._links = {token: link for token, link in self._links.items() if link.ends_s > now_s}
        return list(self._links.values())

    def find(self, token: str, now_s: float) -> ShareLink | None:
        link = self._links.get(token)
        return link if link is not None and link.ends_s > now_s else None

    def end(self, link_id: str, now_s: float) -> None:
        """End a link. Raises UnknownSession if there is none with this id."""
        link = next((link for link in self.all(now_s) if link.id == link_id), None)
        if link is None:
            raise UnknownSession("this session has no link with this id; it may have ended", field="link")
        del self._links[link.token]
