/** Covers the pane while there is no video: says why, and what the user can do. Knows no network. */

import { element } from "./dom.js";
import { STATES } from "./states.js";

const PATIENCE_MS = 12_000;
const MAIN = new Set(["retry", "create", "close"]);

export class Overlay {
  constructor({ title, text, actions }) {
    Object.assign(this, { title, words: text, actions });
    this.pill = STATES.connecting.pill; // the state in a word or two
  }

  /** `buttons` maps names to handlers; a state shows the buttons that it has labels for. */
  phase({ phase, message, retryAtMs }, buttons) {
    clearInterval(this.timer);
    const state = STATES[phase];
    this.pill = state.pill;
    if (phase === "live") return;
    const base = state.text || message;
    this.note(state.title, base);
    const wanted = Object.keys(buttons).filter((name) => state[name]);
    this.actions.replaceChildren(...wanted.map((name) => {
      const button = element("button", MAIN.has(name) ? "solid" : "plain", state[name]);
      button.type = "button";
      button.addEventListener("click", buttons[name]);
      return button;
    }));
    if (retryAtMs !== null && state.retry) this.#count(base, retryAtMs);
    if (phase === "waiting") this.#patience();
  }

  note(title, text) {
    this.title.textContent = title;
    this.words.textContent = text;
  }

  /** No picture yet, because the device is still generating the first segment. */
  making(seconds) {
    clearInterval(this.timer);
    const when = seconds < 1 ? "It will appear any moment." : `This device needs about ${Math.ceil(seconds)} s more.`;
    this.note("The first picture is being generated", when);
  }

  close() {
    clearInterval(this.timer);
  }

  #count(base, atMs) {
    const tick = () => {
      const left = Math.ceil((atMs - performance.now()) / 1000);
      this.words.textContent = left > 0 ? `${base} Trying again in ${left} s.` : `${base} Trying…`;
    };
    tick();
    this.timer = setInterval(tick, 500);
  }

  #patience() {
    const since = performance.now();
    this.timer = setInterval(() => {
      if (performance.now() - since < PATIENCE_MS) return;
      this.words.textContent = "Connected, but no picture arrives. A firewall may block UDP, or the server is busy.";
      clearInterval(this.timer);
    }, 1000);
  }
}
