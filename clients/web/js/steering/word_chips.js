/** The chips under the prompt and the card of all words. Knows the vocabulary, not how a prompt is sent. */

import { element, icon } from "../ui/dom.js";
import { read, say, suggestions, surprise, TITLES, WORDS } from "./vocabulary.js";

function chip(label, { field = "", word = "", kind = "chip" } = {}) {
  const button = element("button", kind);
  button.type = "button";
  if (word && field !== "move" && field !== "hero") {
    const swatch = element("i", "swatch");
    swatch.dataset.word = word;
    button.append(swatch);
  }
  button.append(element("span", "", label));
  return button;
}

export class WordChips {
  /** `choose(sentence, how | null)`: null keeps the prompt box's setting. */
  constructor({ row, card, choose }) {
    this.row = row;
    this.card = card;
    this.choose = choose;
    this.prompt = null;
    this.scene = {};
    // These two stay: a click on what is replaced between press and release would be lost.
    this.dice = chip("Surprise me", { kind: "chip chip-bright" });
    this.dice.prepend(icon("i-dice"));
    this.dice.title = "A random scene";
    this.dice.addEventListener("click", () => this.choose(say(surprise()), "cut"));
    this.more = chip("All words", { kind: "chip chip-quiet" });
    this.more.prepend(icon("i-words"));
    this.more.setAttribute("aria-expanded", String(!this.card.hidden));
    this.more.setAttribute("aria-controls", this.card.id);
    this.more.addEventListener("click", () => this.#open(this.card.hidden));
    row.replaceChildren(this.dice, this.more);
    card.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.#open(false);
      this.more.focus();
    });
    this.follow("");
  }

  /** The session's prompt is now this one: suggest changes to it. */
  follow(prompt) {
    if (prompt === this.prompt) return;
    this.prompt = prompt;
    this.scene = read(prompt);
    this.#suggest();
    this.#mark();
  }

  #suggest() {
    const focused = [...this.row.children].indexOf(document.activeElement);
    for (const old of [...this.row.children].slice(1, -1)) old.remove();
    const chips = suggestions(this.scene).map(({ field, word, label, scene }) => {
      const button = chip(label, { field, word });
      button.addEventListener("click", () => this.choose(say(scene), null));
      return button;
    });
    this.dice.after(...chips);
    if (focused >= 0 && !this.row.contains(document.activeElement)) this.row.children[focused]?.focus();
  }

  #open(open) {
    if (open && !this.card.childElementCount) this.#fill();
    this.card.hidden = !open;
    document.body.classList.toggle("with-words", open);
    this.more.setAttribute("aria-expanded", String(open));
  }

  #fill() {
    for (const [field, title] of Object.entries(TITLES)) {
      const group = element("div", "word-group");
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", title);
      const list = element("div");
      for (const word of Object.keys(WORDS[field])) {
        const button = chip(word, { field, word, kind: "chip chip-small" });
        Object.assign(button.dataset, { field, word });
        button.addEventListener("click", () => {
          this.scene = { ...this.scene, [field]: word };
          this.#mark();
          this.choose(say(this.scene), null);
        });
        list.append(button);
      }
      group.append(element("h3", "", title), list);
      this.card.append(group);
    }
    this.#mark();
  }

  #mark() {
    for (const button of this.card.querySelectorAll("[data-field]")) {
      button.setAttribute("aria-pressed", String(this.scene[button.dataset.field] === button.dataset.word));
    }
  }
}
