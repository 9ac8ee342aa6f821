"""Which session of which server: from an address, a link to a page, and explicit arguments."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urljoin, urlsplit, urlunsplit

from engine.errors import InvalidInput


@dataclass(frozen=True)
class Target:
    """What to watch: `base` is the server; the rest is as in a link to its page."""

    base: str
    session: str
    token: str | None

    @classmethod
    def parse(cls, url: str, session: str | None = None, token: str | None = None) -> Target:
        """Parse a server's address or a link to its page; explicit arguments win. Raises InvalidInput."""
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number, or brackets around what is no IPv6 address
            known = False
        if not known:
            raise InvalidInput(f"URL: {url!r} is not an address like http://localhost:8080")
        query, secret = parse_qs(parts.query), parse_qs(parts.fragment)
        named = session or (query.get("session") or ["main"])[0]
        found = token or (secret.get("token") or query.get("token") or [None])[0]  # type: ignore[list-item]
        if found and not (found.isascii() and found.isprintable()):  # HTTP could not send it
            raise InvalidInput(
                "the token or API key has characters that none has: copy it again", field="token"
            )
        path = parts.path if parts.path.endswith("/") else parts.path.rsplit("/", 1)[0] + "/"
        return cls(urlunsplit((parts.scheme, parts.netloc, path, "", "")), named, found)

    @property
    def path(self) -> str:
        return urljoin(self.base, f"v1/sessions/{quote(self.session, safe='')}")

    @property
    def link(self) -> str:
        """A link to its page. Anyone who has it may steer."""
        secret = f"#token={quote(self.token, safe='')}" if self.token else ""
        return f"{self.base}?session={quote(self.session, safe='')}{secret}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}
