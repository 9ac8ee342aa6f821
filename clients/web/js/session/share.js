/**
 * The card with a link for somebody else: for watching, or one that ends, for watching or steering. If the
 * browser refuses to copy it, the link is selected instead.
 */

const LASTING = "Anyone with this link can watch this video, but not steer it.";
const ENDING = {
  viewer: "Anyone with this link can watch this video until it ends, but not steer it.",
  driver: "Anyone with this link can watch and steer this video until it ends.",
};

export class Share {
  #session = null;
  #lasting = "";

  constructor({ button, card, link, copy, text, kind }) {
    Object.assign(this, { button, card, link, copy, text, kind });
    button.addEventListener("click", () => this.#open(card.hidden));
    copy.addEventListener("click", () => this.#copy());
    kind.addEventListener("change", () => this.#make());
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

  /** Offer this link, and links that end if the page may make them; null hides the button. */
  offer(link, session) {
    if (this.#session === session && this.#lasting === (link ?? "")) return;
    this.#session = session;
    this.#lasting = link ?? "";
    this.button.hidden = link === null;
    this.kind.hidden = session.watch;
    this.#open(false);
  }

  #open(open) {
    this.card.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    this.kind.value = "";
    this.#show(this.#lasting, LASTING);
    if (open) this.link.focus();
  }

  #show(link, text) {
    this.link.value = link;
    this.text.textContent = text;
    this.copy.textContent = "Copy";
    this.copy.disabled = !link;
  }

  /** Ask the server for the chosen link. A later choice wins. */
  async #make() {
    const chosen = this.kind.value;
    if (!chosen) return this.#show(this.#lasting, LASTING);
    this.#show("", "…");
    const [role, seconds] = chosen.split(" ");
    const [link, text] = await this.#session.share(role, Number(seconds)).then(
      (page) => [page, ENDING[role]],
      (error) => ["", error.message],
    );
    if (this.kind.value === chosen) this.#show(link, text);
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
