/** The prompt box: the text, how and when it takes effect, and a history on the arrow keys. Sends nothing itself. */

import { mixed, parts, shares } from "./mix.js";

const REMEMBER = 30;
const BYTES = 2048;

export class PromptBox {
  /** `submit(control, text)` returns whether the prompt was accepted; `mix(shares | null)` is called while prompts are typed. */
  constructor({ form, input, modes, when, leave, submit, mix }) {
    Object.assign(this, { input, modes: [...modes], whenButton: when, leave, submit, mix });
    this.how = "recondition";
    this.when = "next";
    this.past = [];
    this.at = 0;
    for (const button of this.modes) button.addEventListener("click", () => this.#mode(button.dataset.how));
    when.addEventListener("click", () => this.#now(this.when === "next"));
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("input", () => this.#typed());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  /** A prompt control with the box's settings, unless overridden. */
  control(fields, { how = this.how, when = this.when } = {}) {
    return { type: "prompt", ...fields, how, when };
  }

  #key(event) {
    // Enter that confirms an IME composition: Safari ends the composition first, and only the key code 229 tells
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter") {
      event.preventDefault();
      const how = event.shiftKey ? "cut" : event.ctrlKey || event.metaKey ? "soft" : undefined;
      this.#send({ how, when: event.altKey ? "now" : undefined });
    } else if (event.key === "Escape") this.leave();
    else if (event.key === "ArrowUp") this.#recall(event, -1);
    else if (event.key === "ArrowDown") this.#recall(event, 1);
  }

  #send(ways = {}) {
    const text = this.input.value.trim();
    if (!text || !this.#typed()) return this.input.reportValidity();
    if (!this.submit(this.control(mixed(text), ways), text)) return;
    this.past = [...this.past.filter((old) => old !== text), text].slice(-REMEMBER);
    this.at = this.past.length;
    this.#put("");
    this.leave();
  }

  /** Validate the text and show a mix's shares. Returns whether it can be sent. */
  #typed() {
    const { input } = this;
    let fault = new TextEncoder().encode(input.value).length > BYTES ? "A prompt can be at most 2 KiB long." : "";
    let found = null;
    try {
      found = parts(input.value);
    } catch (error) {
      fault ||= error.message;
    }
    input.setCustomValidity(fault);
    this.mix(found?.length > 1 ? shares(found) : null);
    return !fault;
  }

  #put(text) {
    this.input.value = text;
    this.#typed();
  }

  #mode(how) {
    this.how = how;
    for (const button of this.modes) button.setAttribute("aria-pressed", String(button.dataset.how === how));
  }

  #now(on) {
    this.when = on ? "now" : "next";
    this.whenButton.setAttribute("aria-pressed", String(on));
  }

  #recall(event, step) {
    const next = Math.min(Math.max(this.at + step, 0), this.past.length);
    if (next === this.at) return;
    event.preventDefault();
    this.at = next;
    this.#put(this.past[next] ?? "");
  }
}
