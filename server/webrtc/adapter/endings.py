"""Lets a connection end without tracebacks in the log. Hooks into aiortc 1.16, with one test each.

A connection that is closed has work on its way: SCTP's timers and answers, an ICE agent that is about to
start. aiortc lets each of them fail, with a traceback from OpenSSL ("protocol is shutdown") or of a task that
nobody awaits, though nothing is wrong.
"""

from __future__ import annotations

import logging
from typing import Any

from aiortc import RTCPeerConnection, RTCRtpTransceiver
from aiortc.exceptions import InvalidStateError
from OpenSSL import SSL

log = logging.getLogger(__name__)


def end_quietly(pc: RTCPeerConnection, transceiver: RTCRtpTransceiver) -> None:
    """Call it after the offer was set, and before the answer.

    Wraps `RTCDtlsTransport._send_data`, through which SCTP sends: what comes after the end is dropped, as a
    datagram may be. Wraps `RTCIceTransport.start`, which `RTCPeerConnection.__connect` calls in a task."""
    dtls: Any = transceiver.receiver.transport
    send, start = dtls._send_data, dtls.transport.start

    async def send_or_drop(data: bytes) -> None:
        try:
            await send(data)
        except (SSL.Error, ConnectionError) as error:
            if pc.connectionState == "connected" and dtls.state == "connected" and not _shut_down(dtls):
                raise
            log.debug("dropped %d bytes after the end of a connection: %r", len(data), error)

    async def start_or_leave(parameters: Any) -> None:
        try:
            await start(parameters)
        except InvalidStateError:
            log.debug("the connection was closed before ICE began")

    dtls._send_data, dtls.transport.start = send_or_drop, start_or_leave


def _shut_down(dtls: Any) -> bool:
    """Whether the end was told to the other side (`RTCDtlsTransport._ssl`)."""
    return bool(dtls._ssl.get_shutdown() & SSL.SENT_SHUTDOWN)
