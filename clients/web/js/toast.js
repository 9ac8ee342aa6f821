/** A passing note at the top, and the one that counts down until something is tried again. Knows no network. */

const STAYS_MS = 6000;

export class Toast {
  #decide = null; // ends the count that runs

  constructor({ box, text, left, stop }) {
    Object.assign(this, { box, text, left, stop });
    stop.addEventListener("click", () => this.#settle(false));
  }

  /** A count that runs goes on beneath it. */
  say(text) {
    this.#show(text, this.#decide !== null);
    this.fading = setTimeout(() => (this.#decide ? this.#show(this.why, true) : this.#hide()), STAYS_MS);
  }

  /** Show why we wait and for how long; true once the time has come, false where somebody stopped it. */
  async wait(why, atMs) {
    this.#settle(false);
    this.why = why;
    this.#show(why, true);
    const tick = () => {
      const seconds = Math.ceil((atMs - performance.now()) / 1000);
      this.left.textContent = `Trying again in ${Math.max(1, seconds)} s`;
      if (seconds <= 0) this.#settle(true);
    };
    return new Promise((resolve) => {
      const timer = setInterval(tick, 250);
      this.#decide = (go) => {
        clearInterval(timer);
        this.#hide();
        resolve(go);
      };
      tick();
    });
  }

  #settle(go) {
    const decide = this.#decide;
    this.#decide = null;
    decide?.(go);
  }

  #show(text, waits = false) {
    clearTimeout(this.fading);
    this.text.textContent = text;
    this.left.textContent = "";
    this.stop.hidden = !waits;
    this.box.hidden = false;
  }

  #hide() {
    clearTimeout(this.fading);
    this.box.hidden = true;
  }
}
