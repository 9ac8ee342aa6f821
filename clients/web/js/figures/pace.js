/**
 * A chip over the picture, shown when the device is slower than playback.
 *
 * Slow motion comes from each segment's rate, a stall from the session's `buffering` (docs/protocol.md).
 * Anything shorter than CALM_MS is not shown. Knows no network.
 */

const CALM_MS = 700;
const EVERY_MS = 250;
const ROUND = 2 * Math.PI * 8; // circumference of the ring in index.html

const times = (n) => `${n < 0.095 ? n.toFixed(2) : n.toFixed(1)}×`;
const seconds = (ms) => (ms < 1000 ? "any moment" : ms < 90_000 ? `about ${Math.ceil(ms / 1000)} s` : `about ${Math.ceil(ms / 60_000)} min`);

export class Pace {
  /** `pane` gets the class "buffering" while its picture is stalled. */
  constructor({ pane, root, word, figure, ring }) {
    Object.assign(this, { pane, root, word, figure, ring });
    ring.style.strokeDasharray = ROUND;
    this.reset();
    this.timer = setInterval(() => this.#draw(), EVERY_MS);
  }

  close() {
    clearInterval(this.timer);
  }

  /** Another session, or a pause: assume full speed until a message says otherwise. */
  reset() {
    this.rate = this.speed = 1;
    this.buffering = null; // {untilMs, lastsMs}
    this.sinceMs = null; // when the slow phase began
    this.#draw();
  }

  get waiting() {
    return this.buffering !== null;
  }

  /** The state that is shown: "buffering", "slow" or "". */
  get state() {
    return this.root.dataset.state ?? "";
  }

  segment({ rate = 1, speed = 1 }) {
    Object.assign(this, { rate, speed });
    this.#draw();
  }

  session({ buffering = null, paused = false }) {
    if (paused) return this.reset();
    if (buffering === null) this.buffering = null;
    else {
      const leftMs = 1000 * buffering.resumes_in_s;
      const lastsMs = Math.max(this.buffering?.lastsMs ?? 0, leftMs, 1);
      this.buffering = { untilMs: performance.now() + leftMs, lastsMs };
      this.speed = buffering.speed;
    }
    this.#draw();
  }

  #draw() {
    const now = performance.now();
    const state = this.buffering ? "buffering" : this.rate < 1 ? "slow" : "";
    this.sinceMs = state ? this.sinceMs ?? now : null;
    const shown = state && now - this.sinceMs >= CALM_MS;
    this.pane.classList.toggle("buffering", Boolean(shown) && state === "buffering");
    this.root.classList.toggle("on", Boolean(shown));
    if (!shown) return void (this.root.dataset.state = "");
    const leftMs = this.buffering ? Math.max(0, this.buffering.untilMs - now) : 0;
    this.root.dataset.state = state;
    this.#put(this.word, this.buffering ? "Buffering" : "Slow motion");
    this.#put(this.figure, this.buffering ? seconds(leftMs) : times(this.rate));
    this.root.title = `The device runs at ${times(this.speed)} playback speed.`;
    const part = this.buffering ? 1 - leftMs / this.buffering.lastsMs : this.rate;
    this.ring.style.strokeDashoffset = ROUND * (1 - part);
  }

  #put(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }
}
