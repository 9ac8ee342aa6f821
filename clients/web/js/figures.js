/**
 * The numbers of the panel: gathered from segment messages, the ledger, the screen and getStats().
 * Plain data out; how it looks is panel.js.
 */

const SEGMENTS = 80;

export function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export class Figures {
  constructor() {
    this.reset();
  }

  /** Another session: nothing of the last one counts. */
  reset() {
    this.segments = []; // total ms
    this.heardAt = null;
    this.latest = null;
    this.stateBytes = null;
    this.stateSince = 0; // segments in a row with the same size
    this.stateGrew = false;
    this.viewers = null;
    this.model = null; // as the server describes it
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

  /** How long a segment plays. */
  get playbackMs() {
    return this.model ? (1000 * this.model.frames_per_segment) / this.model.fps : null;
  }

  /** For how long nothing was shown after the last segment; 0 before the first. */
  get silentMs() {
    if (this.heardAt === null) return 0;
    return performance.now() - this.heardAt - (this.playbackMs ?? 0) / (this.latest.rate || 1);
  }

  /** One look at getStats(). */
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
