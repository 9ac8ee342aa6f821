/**
 * The one or two panes of the page, one of which is steered. Creates, selects, labels and closes them, but does not
 * know what they show. Dispatches "choose" when another pane becomes the steered one.
 */

import { Pane } from "./pane.js";

const MOST = 2;

export class Panes extends EventTarget {
  /** `first` is the pane in index.html; the second is a copy of it. `buttons(pane)` returns its overlay's buttons.
   *  `prepare(pane)` is called for each new pane. */
  constructor({ root, first, mode, buttons, prepare }) {
    super();
    Object.assign(this, { root, mode, buttons, prepare });
    this.pattern = first.cloneNode(true);
    this.pattern.removeAttribute("id");
    this.all = [];
    this.active = this.#make(first);
    this.#mark();
  }

  get two() {
    return this.all.length === MOST;
  }

  /** Open a second pane and select it. */
  open() {
    const root = this.pattern.cloneNode(true);
    this.root.append(root);
    const pane = this.#make(root);
    this.choose(pane);
    return pane;
  }

  close(pane) {
    this.all = this.all.filter((other) => other !== pane);
    pane.close();
    this.#mark();
    if (this.active === pane) this.choose(this.all[0]);
  }

  choose(pane) {
    if (!pane || pane === this.active) return;
    this.active.walker.releaseAll(); // from now on its keys steer another pane
    this.active = pane;
    this.#mark();
    this.dispatchEvent(new CustomEvent("choose", { detail: pane }));
  }

  #make(root) {
    const pane = new Pane(root, { mode: this.mode, buttons: () => this.buttons(pane) });
    pane.addEventListener("choose", () => this.choose(pane));
    this.all.push(pane);
    this.prepare(pane);
    return pane;
  }

  #mark() {
    const { two } = this;
    this.root.classList.toggle("two", two);
    document.body.classList.toggle("two-futures", two);
    this.all.forEach((pane, i) => {
      pane.root.classList.toggle("chosen", pane === this.active);
      pane.root.setAttribute("aria-label", two ? `Future ${i + 1}${pane === this.active ? ", which you steer" : ""}` : "The video");
      pane.part("number").textContent = String(i + 1);
      pane.part("close").setAttribute("aria-label", `Close future ${i + 1}`);
      pane.part("close").title = `Close this one and keep future ${2 - i}`;
    });
  }
}
