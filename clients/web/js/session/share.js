/** The card with the watch-only link. If the browser refuses to copy it, the link is selected instead. */

export class Share {
  constructor({ button, card, link, copy, text }) {
    Object.assign(this, { button, card, link, copy, text });
    button.addEventListener("click", () => this.#open(card.hidden));
    copy.addEventListener("click", () => this.#copy());
    link.addEventListener("focus", () => link.select());
    document.addEventListener("pointerdown", ({ target }) => {
      if (!card.hidden && !card.contains(target) && !button.contains(target)) this.#open(false);
    });
    card.addEventListener("keydown", ({ key }) => {
      if (key !== "Escape") return;
      this.#open(false);
      button.focus();
    });
  }

  /** Offer this link; null hides the button. */
  offer(link) {
    this.button.hidden = link === null;
    this.link.value = link ?? "";
    this.#open(false);
  }

  #open(open) {
    this.card.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    this.copy.textContent = "Copy";
    if (open) this.link.focus();
  }

  async #copy() {
    this.link.select();
    try {
      await navigator.clipboard.writeText(this.link.value);
      this.copy.textContent = "Copied";
    } catch {
      this.copy.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl + C";
    }
  }
}
