/**
 * The picture: plays the stream, sharpens it, and counts the frames that were actually shown.
 * Independent of sessions; dispatches "frame" ({rtpTimestamp, atMs}) and "first".
 */

import { Upscaler } from "./upscale.js";

const GLOW_EVERY = 4; // frames
const JUDGE_EVERY = 64; // frames received
const TOO_MANY_MISSED = 0.35; // fraction of them; after two such rounds in a row the plain video replaces drawing

export class Screen extends EventTarget {
  /** `root` gets data-render, which says how the picture is drawn. `mode`: "auto", "webgl" (even in software) or "video". */
  constructor({ root, video, canvas, glow, mode = "auto" }) {
    super();
    this.root = root;
    this.video = video;
    this.canvas = canvas;
    this.framesShown = 0;
    this.lastFrameAt = null;
    this.times = []; // when the frames of the last two seconds were shown
    this.force = mode === "webgl";
    this.waiting = true;
    this.came = null; // frames received and shown at the start of the current round
    this.misses = 0;
    this.native = undefined; // the model's picture width in pixels, once known
    this.upscaler = mode === "video" ? null : Upscaler.create(canvas, { force: this.force });
    // With software rendering the glow costs more than it is worth.
    this.glow = this.upscaler ? glow.getContext("2d", { alpha: false }) : null;
    this.#choose();
    canvas.addEventListener("webglcontextlost", () => this.#plain());
    this.closing = new AbortController();
    document.addEventListener("visibilitychange", () => (this.came = null), { signal: this.closing.signal });
    this.sizes = new ResizeObserver(() => this.#draw());
    this.sizes.observe(canvas);
    this.#next();
  }

  get fps() {
    const now = performance.now();
    this.times = this.times.filter((at) => now - at < 2000);
    const span = this.times.length > 1 ? this.times.at(-1) - this.times[0] : 0;
    return span > 0 ? ((this.times.length - 1) * 1000) / span : 0;
  }

  /** Milliseconds since the last frame was shown; null before the first. */
  get ageMs() {
    return this.lastFrameAt === null ? null : performance.now() - this.lastFrameAt;
  }

  show(stream) {
    this.waiting = true;
    this.came = null;
    this.video.srcObject = stream;
    this.video.play().catch(() => {}); // browsers allow muted videos; otherwise the first gesture starts it
  }

  close() {
    this.closing.abort();
    this.sizes.disconnect();
    this.upscaler?.close();
    this.upscaler = this.glow = null;
    this.video.srcObject = null;
  }

  resume() {
    if (this.video.paused && this.video.srcObject) this.video.play().catch(() => {});
  }

  #plain() {
    this.upscaler = this.glow = null;
    this.#choose();
  }

  /** Falls back to the plain video if drawing cannot keep up: showing all frames matters more than sharpness. */
  #judge(presented) {
    if (!this.upscaler || this.force || presented === undefined) return;
    this.came ??= { presented, shown: this.framesShown };
    const came = presented - this.came.presented;
    if (came < JUDGE_EVERY) return;
    const missed = 1 - (this.framesShown - this.came.shown) / came;
    this.misses = missed > TOO_MANY_MISSED ? this.misses + 1 : 0;
    this.came = null;
    if (this.misses >= 2) this.#plain();
  }

  #choose() {
    this.root.dataset.render = this.upscaler ? "webgl" : "video";
  }

  #next() {
    if ("requestVideoFrameCallback" in this.video) this.video.requestVideoFrameCallback((now, meta) => this.#frame(now, meta));
    else this.video.addEventListener("timeupdate", () => this.#frame(performance.now(), {}, false));
  }

  #frame(now, meta, again = true) {
    this.framesShown += 1;
    this.lastFrameAt = performance.now();
    this.times.push(this.lastFrameAt);
    if (this.times.length > 240) this.times.shift();
    this.#judge(meta.presentedFrames);
    this.#draw();
    if (this.glow && this.framesShown % GLOW_EVERY === 1) this.glow.drawImage(this.video, 0, 0, 20, 12);
    const atMs = Math.max(meta.expectedDisplayTime ?? now, now);
    this.dispatchEvent(new CustomEvent("frame", { detail: { rtpTimestamp: meta.rtpTimestamp, atMs } }));
    if (this.waiting) {
      this.waiting = false;
      this.dispatchEvent(new CustomEvent("first", { detail: { width: this.video.videoWidth, height: this.video.videoHeight } }));
    }
    if (again) this.#next();
  }

  #draw() {
    if (this.upscaler && this.video.readyState >= 2) this.upscaler.draw(this.video, this.native);
  }
}
