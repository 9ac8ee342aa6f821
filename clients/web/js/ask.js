/** The prompt box: what is typed, how it takes hold, earlier prompts with the up arrow. Sends nothing itself. */

const REMEMBER = 30;
const BYTES = 2048;

export class Ask {
  /** `submit(text, how)` returns whether it was taken. */
  constructor({ form, input, modes, leave, submit }) {
    this.input = input;
    this.modes = [...modes];
    this.how = "recondition";
    this.past = [];
    this.at = 0;
    for (const button of this.modes) {
      button.addEventListener("click", () => this.#mode(button.dataset.how));
    }
    let cut = false;
    input.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") cut = event.shiftKey;
      if (event.key === "Escape") leave();
      if (event.key === "ArrowUp") this.#recall(event, -1);
      if (event.key === "ArrowDown") this.#recall(event, 1);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = input.value.trim();
      const how = cut ? "cut" : this.how;
      cut = false;
      if (!text) return;
      if (!submit(text, how)) return;
      this.past = [...this.past.filter((old) => old !== text), text].slice(-REMEMBER);
      this.at = this.past.length;
      input.value = "";
      leave();
    });
    input.addEventListener("input", () => {
      const long = new TextEncoder().encode(input.value).length > BYTES;
      input.setCustomValidity(long ? "At most 2 KiB." : "");
    });
  }

  #mode(how) {
    this.how = how;
    for (const button of this.modes) button.setAttribute("aria-pressed", String(button.dataset.how === how));
  }

  #recall(event, step) {
    const next = Math.min(Math.max(this.at + step, 0), this.past.length);
    if (next === this.at) return;
    event.preventDefault();
    this.at = next;
    this.input.value = this.past[next] ?? "";
  }
}
