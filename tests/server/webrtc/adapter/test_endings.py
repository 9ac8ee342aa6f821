"""Hooks for the end of a connection: what is on its way then is no error."""

from __future__ import annotations

from typing import Any

import pytest
from aiortc import RTCSessionDescription
from aiortc.exceptions import InvalidStateError
from OpenSSL import SSL

from server.webrtc.adapter.addresses import Gatherer, ice_connection
from server.webrtc.adapter.endings import end_quietly
from tests.rigs.server.server_rig import answering, until, watcher


async def test_what_is_sent_after_the_end_is_dropped() -> None:
    """SCTP answers and repeats for a moment after DTLS has said goodbye. aiortc logged "protocol is shutdown"
    with a traceback, some times an hour on a busy server."""
    async with watcher() as viewer, answering(await viewer.offer()) as pc:
        transceiver = pc.getTransceivers()[0]
        transceiver.direction = "sendonly"
        Gatherer().install(ice_connection(transceiver))
        dtls: Any = transceiver.receiver.transport
        send = dtls._send_data
        end_quietly(pc, transceiver)
        await pc.setLocalDescription(await pc.createAnswer())
        await viewer.pc.setRemoteDescription(RTCSessionDescription(pc.localDescription.sdp, "answer"))
        await until(lambda: dtls.state == "connected", "the handshake")
        dtls._ssl.shutdown()  # as `RTCDtlsTransport.stop` does, one turn of the loop before the state changes
        await dtls._send_data(b"late")
        with pytest.raises(SSL.Error, match="protocol is shutdown"):
            await send(b"late")


async def test_a_connection_that_is_closed_before_ice_begins_leaves_no_failed_task() -> None:
    async with watcher() as viewer, answering(await viewer.offer()) as pc:
        transceiver = pc.getTransceivers()[0]
        ice = transceiver.receiver.transport.transport
        start = ice.start
        end_quietly(pc, transceiver)
        await pc.close()
        await ice.start(ice.iceGatherer.getLocalParameters())
        with pytest.raises(InvalidStateError):
            await start(ice.iceGatherer.getLocalParameters())
