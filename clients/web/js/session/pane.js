/**
 * One video on the page: a session, its connection, and everything drawn around the picture.
 *
 * The page has one pane, or two that show two futures of one past. A pane steers only its own session and knows no
 * other pane. Dispatches "phase", "info" (of the session), "receipt" (an entry of Receipts), "note" (a message for the
 * user), "forbidden" (somebody else steers), "walk" (the held action) and "choose" (the user touched the pane).
 */

import { Connection, FINAL } from "../media/connection.js";
import { newId } from "../media/control.js";
import { Overlay } from "../ui/overlay.js";
import { Figures } from "../figures/figures.js";
import { prepare } from "./files.js";
import { attachPads, Walker } from "../steering/keys.js";
import { Losses, toSendAgain, WITHIN_MS } from "../steering/lost.js";
import { Receipts } from "../figures/receipts.js";
import { Pace } from "../figures/pace.js";
import { Screen } from "../media/screen.js";

const STALLED_MS = 3000;

export class Pane extends EventTarget {
  /** `buttons()` gives the handlers of the overlay's buttons, except "retry". */
  constructor(root, { mode, buttons }) {
    super();
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    Object.assign(this, { root, part, buttons });
    this.session = null;
    this.info = null; // the latest session message
    this.unsent = null; // the latest prompt typed before there was a connection
    this.later = null; // the timer after which what was refused for now is sent again
    this.overlay = new Overlay({ title: part("title"), text: part("text"), actions: part("actions") });
    this.screen = new Screen({ root, video: part("video"), canvas: part("canvas"), glow: part("glow"), mode });
    this.connection = new Connection();
    this.receipts = new Receipts();
    this.figures = new Figures();
    this.pace = new Pace({ pane: root, root: part("pace"), word: part("pace-word"), figure: part("pace-figure"), ring: part("ring") });
    this.walker = new Walker((action) => this.send({ type: "action", action }));
    this.#listen();
  }

  get phase() {
    return this.connection.phase;
  }

  get paused() {
    return this.info?.paused ?? false;
  }

  /** Show this session. */
  go(session) {
    this.#letGo();
    this.session = session;
    this.unsent = this.info = null;
    this.losses = new Losses();
    this.receipts.keepNone();
    this.figures.reset();
    this.pace.reset();
    this.walker.enabled = !session.watch;
    this.connection.start(session);
  }

  close() {
    this.#letGo();
    this.connection.close();
    this.pace.close();
    this.overlay.close();
    this.screen.close();
    this.root.remove();
  }

  /** The text of the status pill, and whether it is a warning. */
  status() {
    if (this.phase !== "live") return { text: this.overlay.pill, worry: false };
    if (this.paused) return { text: "Paused", worry: false };
    if (this.pace.state === "buffering") return { text: "Buffering", worry: true };
    const stalled = !this.pace.waiting && Math.max(this.screen.ageMs ?? 0, this.figures.silentMs) > STALLED_MS;
    return { text: stalled ? "No new frames" : "Live", worry: stalled };
  }

  // ---- out ----

  /** Send a control and return its id, or null if it was not sent. `text` is shown to the user. */
  send(control, text = control.text) {
    if (this.session.watch) return null;
    const id = this.later ? newId() : (this.connection.control?.send(control) ?? null); // nothing overtakes what waits
    if (id !== null) this.receipts.sent(id, control, text);
    else if (control.type === "prompt" && !FINAL.has(this.phase)) this.unsent = { control, text };
    if (id === null && control.type !== "action") {
      this.#note(this.unsent?.control === control ? "Not connected yet. The prompt will be sent as soon as possible." : "Not connected. Nothing was sent.");
    }
    return id;
  }

  /** Send a prompt now, or as soon as there is a connection. Returns whether it was accepted. */
  prompt(control, text) {
    return this.send(control, text) !== null || this.unsent?.control === control;
  }

  async sendImage(file) {
    const id = newId();
    try {
      const control = { type: "image", data: await prepare(file) };
      this.receipts.sent(id, control);
      await this.#post(id, control);
    } catch (error) {
      this.#note(error.message);
    }
  }

  /** Send a control that is too large for the channel. */
  async #post(id, control) {
    try {
      this.receipts.receipt(await this.session.control({ ...control, id }));
    } catch (error) {
      const refusal = { id, status: "rejected", code: error.code, message: error.message, retry_after_s: error.retryAfterS };
      if (this.#waits(refusal)) return;
      this.#note(error.message);
      this.receipts.receipt(refusal);
    }
  }

  /** Send again what the server may not have, with the same ids, so that nothing is done twice. It has lost these frames. */
  #sendAgain(lost) {
    clearTimeout(this.later);
    this.later = null;
    for (const entry of toSendAgain([...this.receipts.entries.values()], lost, performance.now())) {
      const { id, control } = entry;
      this.receipts.again(entry);
      if (entry.kind === "image") this.#post(id, control);
      else this.connection.control?.send({ ...control, id });
    }
  }

  /** Whether a control is refused for now only, as while its session waits for a place: it will be sent again. */
  #waits({ id, status, message, retry_after_s: afterS }) {
    const entry = this.receipts.entries.get(id);
    if (status !== "rejected" || !Number.isFinite(afterS) || !entry?.control || entry.status === "applied") return false;
    if (performance.now() - entry.since > WITHIN_MS) return false;
    if (this.later === null) this.#note(message);
    this.later ??= setTimeout(() => this.#sendAgain([0, 0]), Math.max(1, afterS) * 1000);
    return true;
  }

  togglePause() {
    this.send({ type: this.paused ? "resume" : "pause" });
  }

  rewind(seconds) {
    if (this.send({ type: "rewind", seconds }, `${seconds} s`) === null) return;
    this.part("jump-by").textContent = `${seconds} s`;
    const { classList } = this.part("jump");
    classList.remove("on");
    void this.part("jump").offsetWidth; // restarts the animation
    classList.add("on");
  }

  /** The page is unloading. */
  leave() {
    this.#letGo();
    this.connection.stop();
  }

  /** Release the held action, since this pane can no longer do so later. The connection may close before the server answers. */
  #letGo() {
    clearTimeout(this.later);
    this.later = null;
    if (this.walker.leave()) this.session.control({ type: "action", action: null }, { keepalive: true }).catch(() => {});
  }

  // ---- in ----

  #listen() {
    const { root, part, connection, screen, walker, receipts } = this;
    connection.addEventListener("phase", ({ detail }) => {
      root.dataset.phase = detail.phase;
      this.overlay.phase(detail, { retry: () => connection.retry(), ...this.buttons() });
      if (FINAL.has(detail.phase) || detail.phase === "gone") walker.releaseAll();
      this.#tell("phase");
    });
    connection.addEventListener("stream", ({ detail }) => {
      screen.show(detail);
      this.#learn(this.session);
    });
    connection.addEventListener("control", ({ detail }) => this.#hear(detail));
    screen.addEventListener("first", ({ detail: { width, height } }) => {
      if (connection.picture() && width && height) part("stage").style.setProperty("--aspect", String(width / height));
    });
    screen.addEventListener("frame", ({ detail }) => receipts.shown(detail.rtpTimestamp, detail.atMs));
    receipts.addEventListener("change", ({ detail }) => this.#tell("receipt", detail));
    walker.addEventListener("change", ({ detail }) => this.#tell("walk", detail));
    for (const name of ["pointerdown", "focusin"]) root.addEventListener(name, () => this.#tell("choose"), true);
    attachPads(root, () => walker);
    part("pause").addEventListener("click", () => this.togglePause());
    part("world").addEventListener("click", () => this.send({ type: "reset", seed: crypto.getRandomValues(new Uint32Array(1))[0] }));
  }

  #hear(control) {
    const on = (type, handler) => control.addEventListener(type, ({ detail }) => handler(detail));
    on("clock", ({ rtp_offset: offset }) => this.receipts.clock(offset));
    on("link", (message) => { this.figures.link = message; });
    on("segment", (message) => {
      this.figures.segment(message);
      this.pace.segment(message);
      this.walker.pace((this.figures.playbackMs ?? 0) / (message.speed || 1));
    });
    on("session", (info) => this.#follow(info));
    on("closed", (message) => this.losses.ended(message));
    on("receipt", (receipt) => {
      if (this.#waits(receipt)) return;
      this.walker.receipt(receipt);
      const entry = this.receipts.receipt(receipt);
      if (entry && receipt.status === "rejected" && receipt.code === "forbidden") this.#tell("forbidden");
    });
    on("error", ({ message }) => this.#note(message));
    this.joined = true; // what was on its way when the last connection broke is sent with the session's first message
    this.walker.resync();
    const { unsent } = this;
    this.unsent = null;
    if (unsent) this.send(unsent.control, unsent.text);
  }

  #follow(info) {
    const { part, screen } = this;
    this.info = info;
    this.figures.session(info);
    this.pace.session(info);
    this.root.classList.toggle("paused", info.paused);
    part("pause").setAttribute("aria-label", info.paused ? "Resume" : "Pause");
    part("pause").title = info.paused ? "Resume (P)" : "Pause (P)";
    part("pause").querySelector("use").setAttribute("href", info.paused ? "#i-play" : "#i-pause");
    part("caption").textContent = info.prompt;
    if (info.paused && screen.waiting) this.overlay.note("The session is paused", "Press play to resume.");
    const lost = this.losses.news(info);
    if (lost || this.joined || this.later) this.#sendAgain(lost ?? [0, 0]);
    this.joined = false;
    if (info.buffering && screen.waiting) this.overlay.making(info.buffering.resumes_in_s);
    this.#tell("info", info);
  }

  async #learn(of) {
    const { model = null } = await of.look().catch(() => ({}));
    if (of !== this.session || !model) return;
    this.screen.native = model.width;
    this.figures.model = model;
  }

  #note(text) {
    this.#tell("note", text);
  }

  #tell(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
