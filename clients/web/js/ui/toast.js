/** A short message at the top, and a countdown to the next attempt. Knows no network. */

const STAYS_MS = 6000;

export class Toast {
  #decide = null; // ends the running countdown

  constructor({ box, text, left, stop }) {
    Object.assign(this, { box, text, left, stop });
    stop.addEventListener("click", () => this.#settle(false));
  }

  /** Show a message for a while; a running countdown returns afterwards. */
  say(text) {
    this.#show(text, this.#decide !== null);
    this.fading = setTimeout(() => (this.#decide ? this.#show(this.why, true) : this.#hide()), STAYS_MS);
  }

  /** Show the reason for waiting, and a countdown. True when the time is up, false if the user stops it. */
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
