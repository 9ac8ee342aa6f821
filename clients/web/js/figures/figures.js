/**
 * The numbers in the panel, collected from the session's messages and getStats().
 * Plain data; panel.js draws it.
 */

const SEGMENTS = 80;

export function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Describes the quality of the viewer's network, from the server's `link` message. */
export function networkText(link) {
  if (!link) return "–";
  const { rung, rungs, kbps, loss, rtt_ms: rtt, queue_ms: queue, copies } = link;
  const state = copies ? "loses packets" : rung ? "is slow" : queue > 100 ? "is filling up" : "carries all";
  const parts = [`${state}: quality ${rungs - rung} of ${rungs}, up to ${kbps} kbit/s`];
  if (copies) parts.push(`sent ${copies + 1} times`);
  parts.push(`${(100 * loss).toFixed(loss && loss < 0.1 ? 1 : 0)} % lost`);
  if (rtt !== null) parts.push(`${Math.round(rtt)} ms round trip`);
  return parts.join(", ");
}

export class Figures {
  constructor() {
    this.reset();
  }

  /** Reset for another session. */
  reset() {
    this.segments = []; // total ms
    this.heardAt = null;
    this.latest = null;
    this.stateBytes = null;
    this.stateSince = 0; // consecutive segments with this size
    this.stateGrew = false;
    this.viewers = null;
    this.link = null; // the server's latest `link` message
    this.model = null; // as reported by the server
    this.media = { codec: null, kbps: null, dropped: 0, lost: 0, jitterMs: null, size: null };
    this.previous = null;
  }

  segment(message) {
    this.latest = message;
    const { timings_ms: timings, state_bytes: bytes } = message;
    const total = timings?.total ?? Object.values(timings ?? {}).reduce((a, b) => a + b, 0);
    this.segments.push(total);
    this.heardAt = performance.now();
    if (this.segments.length > SEGMENTS) this.segments.shift();
    this.stateGrew ||= this.stateBytes !== null && bytes !== this.stateBytes;
    this.stateSince = bytes === this.stateBytes ? this.stateSince + 1 : 1;
    this.stateBytes = bytes;
  }

  session(message) {
    this.stateBytes ??= message.state_bytes;
    this.viewers = message.viewers;
  }

  /** Playback time of a segment in milliseconds. */
  get playbackMs() {
    return this.model ? (1000 * this.model.frames_per_segment) / this.model.fps : null;
  }

  /** Milliseconds without a segment since the last one should have ended; 0 before the first. */
  get silentMs() {
    if (this.heardAt === null) return 0;
    return performance.now() - this.heardAt - (this.playbackMs ?? 0) / (this.latest.rate || 1);
  }

  /** Take one sample of getStats(). */
  async sample(pc) {
    if (!pc || pc.connectionState !== "connected") return;
    const report = await pc.getStats();
    const stats = [...report.values()];
    const video = stats.find((s) => s.type === "inbound-rtp" && s.kind === "video");
    if (!video) return;
    const codec = report.get(video.codecId)?.mimeType?.replace("video/", "") ?? null;
    const now = { at: video.timestamp, bytes: video.bytesReceived, delay: video.jitterBufferDelay, out: video.jitterBufferEmittedCount };
    const was = this.previous;
    this.previous = now;
    const seconds = was ? (now.at - was.at) / 1000 : 0;
    const frames = was ? now.out - was.out : 0;
    this.media = {
      codec,
      kbps: seconds > 0 ? ((now.bytes - was.bytes) * 8) / 1000 / seconds : this.media.kbps,
      dropped: video.framesDropped ?? 0,
      lost: video.packetsLost ?? 0,
      jitterMs: frames > 0 ? ((now.delay - was.delay) * 1000) / frames : this.media.jitterMs,
      size: video.frameWidth ? `${video.frameWidth} × ${video.frameHeight}` : null,
    };
  }
}
