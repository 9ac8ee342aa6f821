/**
 * One video of the page: a session, its connection, and everything drawn over and under the picture.
 *
 * The page has one pane, or two: two futures of one past. A pane steers its own session only and knows no other
 * pane; listeners hear "phase", "info" (of the session), "receipt" (a ledger's entry), "note" (a text for people),
 * "forbidden" (somebody else steers) and "choose" (somebody touched it).
 */

import { Connection, FINAL } from "./connection.js";
import { newId } from "./control.js";
import { Curtain } from "./curtain.js";
import { Figures } from "./figures.js";
import { prepare } from "./files.js";
import { attachPads, Walker } from "./keys.js";
import { Ledger } from "./ledger.js";
import { Pace } from "./pace.js";
import { Screen } from "./screen.js";

const STALLED_MS = 3000;

export class Pane extends EventTarget {
  /** `doings()`: what the curtain's buttons do now, beside trying again. */
  constructor(root, { mode, doings }) {
    super();
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    Object.assign(this, { root, part, doings });
    this.session = null;
    this.info = null; // the session as it is now
    this.held = null; // a prompt for which there was no connection yet; the latest wins
    this.curtain = new Curtain({ title: part("title"), text: part("text"), actions: part("actions") });
    this.screen = new Screen({ root, video: part("video"), canvas: part("canvas"), glow: part("glow"), mode });
    this.connection = new Connection();
    this.ledger = new Ledger();
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

  /** Show this session from now on. */
  go(session) {
    this.#letGo();
    this.session = session;
    this.held = this.info = null;
    this.figures.reset();
    this.pace.reset();
    this.walker.enabled = !session.watch;
    this.connection.start(session);
  }

  close() {
    this.#letGo();
    this.connection.close();
    this.pace.close();
    this.curtain.close();
    this.screen.close();
    this.root.remove();
  }

  /** The pill's word for what this pane does, and whether that is a worry. */
  status() {
    if (this.phase !== "live") return { text: this.curtain.pill, worry: false };
    if (this.paused) return { text: "Paused", worry: false };
    if (this.pace.state === "buffering") return { text: "Buffering", worry: true };
    const stalled = !this.pace.waiting && Math.max(this.screen.ageMs ?? 0, this.figures.silentMs) > STALLED_MS;
    return { text: stalled ? "No new frames" : "Live", worry: stalled };
  }

  // ---- out ----

  /** Send a control; its id, or null where it did not leave. `text` is what people are to see of it. */
  send(control, text = control.text) {
    if (this.session.watch) return null;
    const id = this.connection.control?.send(control) ?? null;
    if (id !== null) this.ledger.sent(id, control, text);
    else if (control.type === "prompt" && !FINAL.has(this.phase)) this.held = { control, text };
    if (id === null && control.type !== "action") {
      this.#note(this.held?.control === control ? "Not connected yet. It will be sent as soon as it can be." : "Not connected: nothing was sent.");
    }
    return id;
  }

  /** Whether it was taken, now or for later. */
  prompt(control, text) {
    return this.send(control, text) !== null || this.held?.control === control;
  }

  async sendImage(file) {
    const id = newId();
    try {
      const control = { id, type: "image", data: await prepare(file) };
      this.ledger.sent(id, { type: "image" });
      this.ledger.receipt(await this.session.control(control));
    } catch (error) {
      this.#note(error.message);
      this.ledger.receipt({ id, status: "rejected", code: error.code, message: error.message });
    }
  }

  togglePause() {
    this.send({ type: this.paused ? "resume" : "pause" });
  }

  rewind(seconds) {
    if (this.send({ type: "rewind", seconds }, `${seconds} s`) === null) return;
    this.part("jump-by").textContent = `${seconds} s`;
    const { classList } = this.part("jump");
    classList.remove("on");
    void this.part("jump").offsetWidth; // so that the animation starts anew
    classList.add("on");
  }

  /** The page goes away. */
  leave() {
    this.#letGo();
    this.connection.stop();
  }

  /** Nobody is left here to let go of a key; the connection may not live until the server answers. */
  #letGo() {
    if (this.walker.leave()) this.session.control({ type: "action", action: null }, { keepalive: true }).catch(() => {});
  }

  // ---- in ----

  #listen() {
    const { root, part, connection, screen, walker, ledger } = this;
    connection.addEventListener("phase", ({ detail }) => {
      root.dataset.phase = detail.phase;
      this.curtain.phase(detail, { retry: () => connection.retry(), ...this.doings() });
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
    screen.addEventListener("frame", ({ detail }) => ledger.shown(detail.rtpTimestamp, detail.atMs));
    ledger.addEventListener("change", ({ detail }) => this.#tell("receipt", detail));
    walker.addEventListener("change", ({ detail }) => this.#tell("walk", detail));
    for (const name of ["pointerdown", "focusin"]) root.addEventListener(name, () => this.#tell("choose"), true);
    attachPads(root, () => walker);
    part("pause").addEventListener("click", () => this.togglePause());
    part("world").addEventListener("click", () => this.send({ type: "reset", seed: crypto.getRandomValues(new Uint32Array(1))[0] }));
  }

  #hear(control) {
    const on = (type, handler) => control.addEventListener(type, ({ detail }) => handler(detail));
    on("clock", ({ rtp_offset: offset }) => this.ledger.clock(offset));
    on("segment", (message) => {
      this.figures.segment(message);
      this.pace.segment(message);
      this.walker.pace((this.figures.playbackMs ?? 0) / (message.speed || 1));
    });
    on("session", (info) => this.#follow(info));
    on("receipt", (receipt) => {
      this.walker.receipt(receipt);
      const entry = this.ledger.receipt(receipt);
      if (entry && receipt.status === "rejected" && receipt.code === "forbidden") this.#tell("forbidden");
    });
    on("error", ({ message }) => this.#note(message));
    this.walker.resync();
    const { held } = this;
    this.held = null;
    if (held) this.send(held.control, held.text);
  }

  #follow(info) {
    const { part, screen } = this;
    this.info = info;
    this.figures.session(info);
    this.pace.session(info);
    this.root.classList.toggle("paused", info.paused);
    part("pause").setAttribute("aria-label", info.paused ? "Go on" : "Pause");
    part("pause").title = info.paused ? "Go on (P)" : "Pause (P)";
    part("pause").querySelector("use").setAttribute("href", info.paused ? "#i-play" : "#i-pause");
    part("caption").textContent = info.prompt;
    if (info.paused && screen.waiting) this.curtain.note("The session is paused", "Press play to go on.");
    if (info.buffering && screen.waiting) this.curtain.making(info.buffering.resumes_in_s);
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
