/**
 * The panes of the page: one, or two side by side, of which one is steered. It makes, chooses and closes them and
 * marks them for people; what they show is their own affair. Listeners hear "choose" when another one is steered.
 */

import { Pane } from "./pane.js";

const MOST = 2;

export class Futures extends EventTarget {
  /** `first` is the pane of index.html, the pattern of the other. `doings(pane)`: its curtain's buttons;
   *  `prepare(pane)` is called with each new one. */
  constructor({ root, first, mode, doings, prepare }) {
    super();
    Object.assign(this, { root, mode, doings, prepare });
    this.pattern = first.cloneNode(true);
    this.pattern.removeAttribute("id");
    this.panes = [];
    this.active = this.#make(first);
    this.#mark();
  }

  get two() {
    return this.panes.length === MOST;
  }

  /** A second pane, chosen. */
  open() {
    const root = this.pattern.cloneNode(true);
    this.root.append(root);
    const pane = this.#make(root);
    this.choose(pane);
    return pane;
  }

  close(pane) {
    this.panes = this.panes.filter((other) => other !== pane);
    pane.close();
    this.#mark();
    if (this.active === pane) this.choose(this.panes[0]);
  }

  choose(pane) {
    if (!pane || pane === this.active) return;
    this.active.walker.releaseAll(); // its keys are somebody else's now
    this.active = pane;
    this.#mark();
    this.dispatchEvent(new CustomEvent("choose", { detail: pane }));
  }

  #make(root) {
    const pane = new Pane(root, { mode: this.mode, doings: () => this.doings(pane) });
    pane.addEventListener("choose", () => this.choose(pane));
    this.panes.push(pane);
    this.prepare(pane);
    return pane;
  }

  #mark() {
    const { two } = this;
    this.root.classList.toggle("two", two);
    document.body.classList.toggle("two-futures", two);
    this.panes.forEach((pane, i) => {
      pane.root.classList.toggle("chosen", pane === this.active);
      pane.root.setAttribute("aria-label", two ? `Future ${i + 1}${pane === this.active ? ", which you steer" : ""}` : "The video");
      pane.part("number").textContent = String(i + 1);
      pane.part("close").setAttribute("aria-label", `Close future ${i + 1}`);
      pane.part("close").title = `Close this one and keep future ${2 - i}`;
    });
  }
}
