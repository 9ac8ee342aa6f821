/** The panel of figures. While open, it redraws a pane's Figures, Receipts and Screen four times a second. */

import { element as make, icon, svg as draw } from "../ui/dom.js";
import { median, networkText } from "./figures.js";

const EVERY_MS = 250;
const WIDE = 240;
const TALL = 44;

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const spaced = (n) => whole.format(n).replaceAll(",", "\u202f");
const ms = (n) => {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  const [size, sign] = [Math.abs(n), n < 0 ? "−" : ""];
  if (size >= 10_000) return `${sign}${tenth.format(size / 1000)} s`;
  return `${sign}${size < 10 ? tenth.format(size) : spaced(size)} ms`;
};

const times = (n) => (n ? `${n < 1 ? n.toFixed(2) : tenth.format(n)} ×` : "–");

const ROWS = [
  ["Picture", [["fps", "Frames shown"], ["dropped", "Dropped"], ["codec", "Codec"], ["rate", "Bit rate"], ["buffer", "Player's buffer"], ["rtt", "Round trip"], ["network", "Your network"], ["viewers", "Viewers"]]],
  ["Generation", [["spark", ""], ["segment", "Segment"], ["speed", "Speed over playback"], ["shown", "Playback rate"], ["lead", "Lead"], ["late", "Late segments"], ["number", "Segment number"], ["model", "Model"]]],
];

export class Panel {
  constructor({ root, toggle }) {
    Object.assign(this, { root, toggle });
    this.pane = null; // the pane whose figures are shown
    this.cells = {};
    this.#build();
    toggle.addEventListener("click", () => this.flip());
    setInterval(() => !root.hidden && this.#draw(), EVERY_MS);
    setInterval(() => !root.hidden && this.pane?.figures.sample(this.pane.connection.pc).catch(() => {}), 1000);
  }

  watch(pane) {
    this.pane = pane;
    if (!this.root.hidden) this.#draw();
  }

  flip(open = this.root.hidden) {
    this.root.hidden = !open;
    this.toggle.setAttribute("aria-expanded", String(open));
    document.body.classList.toggle("with-panel", open);
    if (open) this.#draw();
  }

  #build() {
    const cell = (name, tag = "dd", className = "") => (this.cells[name] = make(tag, className));
    const head = make("div", "panel-head");
    const close = make("button", "tool panel-close");
    close.type = "button";
    close.setAttribute("aria-label", "Close the figures");
    close.append(icon("i-close"));
    close.addEventListener("click", () => {
      this.flip(false);
      this.toggle.focus();
    });
    head.append(make("h2", "", "Figures"), close);

    const hero = make("div", "panel-hero");
    hero.append(make("span", "panel-label", "Prompt to picture"), cell("latency", "strong", "panel-big"), cell("latencies", "span", "panel-note"));
    const state = make("div", "panel-hero");
    state.append(make("span", "panel-label", "State of this session"), cell("state", "strong", "panel-big"), cell("constant", "span", "panel-note"));
    this.root.append(head, hero, state);

    for (const [title, rows] of ROWS) {
      const list = make("dl", "panel-rows");
      this.root.append(make("h3", "", title), list);
      for (const [name, label] of rows) {
        if (name === "spark") {
          this.#spark(list);
          continue;
        }
        const row = make("div", "panel-row");
        row.append(make("dt", "", label), cell(name));
        list.append(row);
      }
    }
    this.root.append(make("h3", "", "Last prompts"));
    this.root.append(cell("prompts", "ol", "panel-prompts"));
  }

  #spark(list) {
    const svg = draw("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, class: "spark", role: "img", preserveAspectRatio: "none" });
    this.limit = svg.appendChild(draw("line", { class: "spark-limit" }));
    this.curve = svg.appendChild(draw("polyline", { class: "spark-line" }));
    list.before(svg);
    this.svg = svg;
  }

  #draw() {
    const { cells } = this;
    const { screen, receipts, figures, connection } = this.pane;
    const put = (name, text) => {
      if (cells[name].textContent !== text) cells[name].textContent = text;
    };
    const seen = receipts.latencies("prompt");
    put("latency", ms(receipts.recent("prompt").find((e) => e.onScreenMs !== null)?.onScreenMs));
    const keys = receipts.latencies("action");
    put("latencies", [
      seen.length > 1 ? `median ${ms(median(seen))} of ${seen.length}` : seen.length ? "one prompt so far" : "send a prompt to measure this",
      keys.length ? `key to picture ${ms(median(keys))}` : "",
    ].filter(Boolean).join(" · "));
    put("state", figures.stateBytes === null ? "–" : `${spaced(figures.stateBytes)} bytes`);
    const { latest } = figures;
    put("constant", !figures.stateSince ? "never grows" : figures.stateGrew
      ? `unchanged for ${spaced(figures.stateSince)} segments`
      : `never grows · unchanged for ${spaced(figures.stateSince)} segments`);

    put("fps", `${tenth.format(screen.fps)} per second`);
    const server = latest?.dropped_frames_total ?? 0;
    put("dropped", server || figures.media.dropped ? `${server} by the server, ${figures.media.dropped} here` : "0");
    put("codec", [figures.media.codec, figures.media.size].filter(Boolean).join(", ") || "–");
    put("rate", figures.media.kbps === null ? "–" : `${spaced(figures.media.kbps)} kbit/s`);
    put("buffer", ms(figures.media.jitterMs));
    put("rtt", ms(connection.control?.rttMs));
    put("network", networkText(figures.link));
    put("viewers", figures.viewers === null ? "–" : String(figures.viewers));

    const played = figures.playbackMs;
    const last = figures.segments.at(-1);
    put("segment", last === undefined ? "–" : `${ms(last)}${played ? ` for ${ms(Math.round(played))} of video` : ""}`);
    put("speed", times(latest?.speed));
    put("shown", times(latest?.rate));
    put("lead", ms(latest?.lead_ms));
    put("late", latest ? spaced(latest.late_total) : "–");
    put("number", latest ? spaced(latest.segment) : "–");
    put("model", figures.model ? `${figures.model.name} on ${figures.model.backend}` : "–");
    this.#plot(figures.segments, played);
    this.#list(receipts.recent("prompt").slice(0, 5));
  }

  #plot(values, limit) {
    const top = Math.max(...values, (limit ?? 0) * 1.1, 1);
    const y = (v) => (TALL - 2 - (v / top) * (TALL - 4)).toFixed(1);
    this.curve.setAttribute("points", values.map((v, i) => `${((i / Math.max(values.length - 1, 1)) * WIDE).toFixed(1)},${y(v)}`).join(" "));
    for (const [name, value] of [["x1", 0], ["x2", WIDE], ["y1", y(limit ?? 0)], ["y2", y(limit ?? 0)]]) this.limit.setAttribute(name, value);
    this.limit.style.display = limit ? "" : "none";
    this.svg.setAttribute("aria-label", `Generation time of the last ${values.length} segments; the dashed line is the playback time of one`);
  }

  #list(entries) {
    const key = entries.map((e) => e.id + e.status + e.onScreenMs).join();
    if (key === this.listed) return;
    this.listed = key;
    this.cells.prompts.replaceChildren(...entries.map((entry) => {
      const item = make("li");
      const time = entry.status === "rejected" ? "rejected" : ms(entry.onScreenMs ?? entry.appliedMs);
      item.append(make("span", "", entry.text), make("b", "", time));
      return item;
    }));
  }
}
