/** Says what is going on: the pill at the top, the curtain over the video, a passing note. Knows no network. */

import { element } from "./dom.js";
import { STATES } from "./states.js";

const PATIENCE_MS = 12_000;

export class Notices {
  constructor({ pill, curtain, title, text, actions, toast }) {
    Object.assign(this, { pill, curtain, title, words: text, actions, box: toast });
  }

  /** `doings` has retry, main and create: what the buttons do. */
  phase({ phase, message, retryAtMs }, doings) {
    clearInterval(this.timer);
    const state = STATES[phase];
    this.pill.textContent = state.pill;
    if (phase === "live") return;
    const base = state.text || message;
    this.note(state.title, base);
    this.actions.replaceChildren(...["retry", "main", "create"].filter((name) => state[name]).map((name) => {
      const button = element("button", name === "retry" || name === "create" ? "solid" : "plain", state[name]);
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

  /** While live: only the pill changes. */
  live(text, stalled) {
    if (this.pill.textContent !== text) this.pill.textContent = text;
    document.body.classList.toggle("stalled", stalled);
  }

  toast(text) {
    clearTimeout(this.fading);
    this.box.textContent = text;
    this.box.hidden = false;
    this.fading = setTimeout(() => (this.box.hidden = true), 6000);
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
