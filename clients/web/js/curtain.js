/** What stands over a video that is not there: why, and what can be done about it. Knows no network. */

import { element } from "./dom.js";
import { STATES } from "./states.js";

const PATIENCE_MS = 12_000;
const MAIN = new Set(["retry", "create", "close"]);

export class Curtain {
  constructor({ title, text, actions }) {
    Object.assign(this, { title, words: text, actions });
    this.pill = STATES.connecting.pill; // the state in a word or two
  }

  /** `doings` are what the buttons do, by name; a state shows the buttons it has words for. */
  phase({ phase, message, retryAtMs }, doings) {
    clearInterval(this.timer);
    const state = STATES[phase];
    this.pill = state.pill;
    if (phase === "live") return;
    const base = state.text || message;
    this.note(state.title, base);
    const wanted = Object.keys(doings).filter((name) => state[name]);
    this.actions.replaceChildren(...wanted.map((name) => {
      const button = element("button", MAIN.has(name) ? "solid" : "plain", state[name]);
      button.type = "button";
      button.addEventListener("click", doings[name]);
      return button;
    }));
    if (retryAtMs !== null && state.retry) this.#count(base, retryAtMs);
    if (phase === "waiting") this.#patience();
  }

  note(title, text) {
    this.title.textContent = title;
    this.words.textContent = text;
  }

  /** No picture yet, and the server knows why: the device is at work on it. */
  making(seconds) {
    clearInterval(this.timer);
    const when = seconds < 1 ? "It will be there any moment." : `This device needs about ${Math.ceil(seconds)} s more for it.`;
    this.note("The first picture is being made", when);
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
      this.words.textContent = "Connected, but no picture arrives. A firewall may be holding back UDP, or the server is busy.";
      clearInterval(this.timer);
    }, 1000);
  }
}
