"""The metrics at /metrics: prefix psistream_, base units, and no label whose values grow with clients.

This module only counts. Each server has its own registry, since tests run many servers in one process.
"""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from engine.types import Capacity, Receipt
from server.control.mqtt.bridge import MqttBridge
from server.version import VERSION
from server.worker.messages.events import SegmentStats, WorkerReady

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
SPEED = (0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
FAILOVER = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
RATIO = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sessions = self._gauge("sessions", "Open sessions, including those asleep")
        self.asleep = self._gauge(
            "sessions_asleep", "Open sessions that are paused or unwatched; they use no device time"
        )
        self.slots_free = self._gauge("session_slots_free", "Sessions that may still be opened")
        self.refused = self._counter("admission_rejected_total", "Refused sessions and viewers", "reason")
        self.capacity = self._gauge(
            "capacity_sessions", "Sessions that the device serves in real time", "worker"
        )
        self.load = self._gauge("device_load", "Share of device time that the open sessions use", "worker")
        self.segments = self._counter("segments_generated_total", "Segments that were played")
        self.segment_s = self._histogram("segment_generate_seconds", "Device time of one segment", SECONDS)
        self.missed = self._counter("segment_deadline_missed_total", "Segments that were late for playout")
        self.lead_s = self._histogram("segment_lead_seconds", "How early a segment was ready", SECONDS)
        self.speed = self._histogram(
            "generation_speed_ratio", "Seconds of video per second of generation time", SPEED
        )
        self.rate = self._histogram(
            "playback_rate_ratio", "Speed at which a segment is shown; 1 is natural", SPEED
        )
        self.buffering = self._gauge("sessions_buffering", "Sessions whose picture is stalled now")
        self.encode_s = self._histogram(
            "frame_encode_seconds",
            "Time to encode one frame",
            (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
        )
        self.state_bytes = self._gauge("session_state_bytes", "Size of one session's state")
        self.encoded = self._counter("frames_encoded_total", "Encoded frames", "codec")
        self.sent = self._counter("frames_sent_total", "Frames handed to viewers")
        self.dropped = self._counter("frames_dropped_total", "Frames that were not shown", "reason")
        self.first_frame_s = self._histogram(
            "time_to_first_frame_seconds", "Time from a viewer's offer to sending its first frame", SECONDS
        )
        self.viewers = self._gauge("webrtc_peers", "Viewers", "state")
        self.rtt_s = self._histogram("webrtc_rtt_seconds", "Round-trip time that viewers report", SECONDS)
        self.loss = self._histogram("webrtc_packet_loss_ratio", "Packet loss that viewers report", RATIO)
        self.plis = self._counter("webrtc_pli_total", "Keyframes that viewers requested")
        self.stray = self._counter("webrtc_dropped_datagrams_total", "Datagrams from unknown senders")
        self.controls = self._counter("controls_total", "Final receipts", "status", "code")
        self.apply_s = self._histogram("control_apply_seconds", "Time from received to applied", SECONDS)
        self.worker_up = self._gauge("worker_up", "1 while the worker runs", "worker")
        self.worker_sessions = self._gauge("worker_sessions", "Sessions that the worker runs", "worker")
        self.draining = self._gauge("worker_draining", "1 while the worker is drained", "worker")
        self.restarts = self._counter(
            "worker_restarts_total", "Times that a dead worker was replaced", "worker"
        )
        self.hangs = self._counter(
            "hangs_total", "Device calls that took far longer than any before", "worker"
        )
        self.resumed = self._counter("sessions_resumed_total", "Sessions restored in another worker")
        self.moved = self._counter(
            "sessions_moved_total", "Sessions moved to another worker while they ran", "reason"
        )
        for reason in ("drain", "balance"):
            self.moved.labels(reason)
        self.failover_s = self._histogram(
            "failover_seconds", "Time from the loss of a worker to the next new picture", FAILOVER
        )
        self.snapshot_bytes = self._gauge("snapshot_bytes", "Size of the latest snapshot")
        self.saves = self._counter("saved_sessions_total", "Sessions put into --snapshots", "result")
        self.saved_bytes = self._counter("saved_bytes_total", "Bytes put into --snapshots")
        self.waiting = self._gauge("sessions_waiting", "Saved sessions that wait for a place")
        self.mqtt_connected = self._gauge("mqtt_connected", "1 if connected to the broker; -1 without MQTT")
        self.mqtt_connected.set(-1)
        self.mqtt_messages = self._gauge("mqtt_messages", "MQTT messages since the start", "result")
        self.passed_on = self._counter(
            "requests_passed_on_total", "Requests about sessions of other gateways", "result"
        )
        self.directory = self._gauge("directory_connected", "1 if the directory answers; -1 without --join")
        self.directory.set(-1)
        self.loop_lag_s = self._gauge("event_loop_lag_seconds", "How late the event loop last ran")
        self.build = self._gauge("build_info", "Versions; always 1", "version", "model", "backend")

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def mqtt(self, bridge: MqttBridge) -> None:
        """Use the bridge's own counters: they are read whenever the metrics are."""
        self.mqtt_connected.set_function(lambda: float(bridge.status.state == "connected"))
        for result in ("received", "rejected", "dropped"):
            self.mqtt_messages.labels(result).set_function(
                lambda name=f"{result}_total": float(getattr(bridge.status, name))  # type: ignore[misc]
            )

    def segment(self, stats: SegmentStats, late: int, dropped: int) -> None:
        """Count a segment. `late` and `dropped` are the increases since the session's last segment."""
        self.segments.inc()
        self.segment_s.observe(stats.timings_ms.get("total", 0.0) / 1000)
        self.lead_s.observe(max(0.0, stats.lead_ms / 1000))
        self.speed.observe(stats.speed)
        self.rate.observe(stats.rate)
        if stats.encode_ms:
            self.encode_s.observe(stats.encode_ms / 1000)
        self.state_bytes.set(stats.state_bytes)
        self.missed.inc(max(0, late))
        self.dropped.labels("stale").inc(max(0, dropped))

    def receipt(self, receipt: Receipt, since_received_s: float | None) -> None:
        self.controls.labels(receipt.status, receipt.code or "").inc()
        if receipt.status == "applied" and since_received_s is not None:
            self.apply_s.observe(since_received_s)

    def capacity_is(self, worker: str, capacity: Capacity) -> None:
        self.capacity.labels(worker).set(capacity.sessions)
        self.load.labels(worker).set(capacity.load)

    def worker_expected(self, worker: str) -> None:
        """Create a worker's metrics at 0. One that first appears with the value 1 would not trigger alerts on
        an increase."""
        for figure in (self.worker_up, self.worker_sessions, self.draining, self.restarts, self.hangs):
            figure.labels(worker)

    def worker_gone(self, worker: str) -> None:
        """Forget a worker that will not come back."""
        all_of_it = (self.worker_up, self.worker_sessions, self.draining, self.restarts, self.hangs)
        for figure in (*all_of_it, self.capacity, self.load):
            with suppress(KeyError):
                figure.remove(worker)

    def worker(self, worker: str, ready: WorkerReady) -> None:
        self.worker_up.labels(worker).set(1)
        self.build.labels(VERSION, ready.model, ready.backend).set(1)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"psistream_{name}", about, labels, registry=self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"psistream_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"psistream_{name}", about, buckets=buckets, registry=self.registry)
