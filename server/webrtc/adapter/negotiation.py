"""Hooks into aiortc 1.16 for the DTLS certificate and for parsing SDP, one test each.

Each function says which private member it uses and why the public interface is not enough. It patches only
the objects of one connection, no modules or classes. It knows no sessions and no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiortc import RTCPeerConnection
from aiortc import sdp as aiortc_sdp

from engine.errors import InvalidInput

SUITES = b":".join(  # with authenticated encryption only, so nothing below DTLS 1.2
    b"ECDHE-%s-%s" % (kind, cipher)
    for cipher in (
        b"AES128-GCM-SHA256",
        b"CHACHA20-POLY1305",
        b"AES256-GCM-SHA384",
    )
    for kind in (b"ECDSA", b"RSA")
)


def accept_rsa(pc: RTCPeerConnection) -> None:
    """Also accept players with an RSA certificate (GStreamer's webrtcbin). Call it before the offer is set.

    aiortc names ECDSA suites only; wraps `RTCCertificate._create_ssl_context` of
    `RTCPeerConnection.__certificates`, and takes the same strong suites for both kinds of keys."""
    for certificate in _certificates(pc):
        make = certificate._create_ssl_context

        def make_for_both(*args: Any, make: Callable[..., Any] = make, **kwargs: Any) -> Any:
            context = make(*args, **kwargs)
            context.set_cipher_list(SUITES)
            return context

        certificate._create_ssl_context = make_for_both


def one_fingerprint(pc: RTCPeerConnection) -> None:
    """Announce only the SHA-256 fingerprint of the certificate. Call it before the answer is created.

    aiortc lists three digests of one certificate in each media section, and libdatachannel treats any of them
    as SHA-256, so its handshakes sometimes fail with "unknown CA". Wraps `RTCCertificate.getFingerprints` of
    `RTCPeerConnection.__certificates`."""
    for certificate in _certificates(pc):
        known = certificate.getFingerprints()
        certificate.getFingerprints = lambda known=known: [f for f in known if f.algorithm == "sha-256"]


def parse_sdp(text: str) -> aiortc_sdp.SessionDescription:
    """Raises InvalidInput. `aiortc.sdp` is undocumented and raises arbitrary exceptions for bad input, so all
    of them are caught here."""
    try:
        return aiortc_sdp.SessionDescription.parse(text)
    except (ValueError, AssertionError, LookupError, AttributeError, TypeError, StopIteration) as error:
        raise InvalidInput(
            f"the SDP cannot be parsed ({type(error).__name__}); send a browser's offer as it is", field="sdp"
        ) from None


def _certificates(pc: RTCPeerConnection) -> list[Any]:
    return list(pc._RTCPeerConnection__certificates)  # type: ignore[attr-defined]
