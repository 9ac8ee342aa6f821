/**
 * The line under the prompt: received → applied → on screen, as each happens. A live region announces the result
 * to screen readers. While mixed prompts are typed, the line shows their shares.
 */

import { element } from "../ui/dom.js";

const ms = (n) => (n < 10_000 ? `${n < 10 ? n.toFixed(1) : Math.round(n)} ms` : `${(n / 1000).toFixed(1)} s`);
const NAMES = { pause: "Pause", resume: "Resume", reset: "New world", image: "Your picture", rewind: "Back" };
const WAYS = { soft: "fading", cut: "new scene", now: "at once" };
const FAR = /back by ([\d.]+ s)/;
const STILL = new Set(["pause", "resume"]); // these do not change the picture

/** The steps of an entry: [{label, detail, done}]. */
export function steps(entry) {
  const applied = entry.appliedMs !== null;
  const seen = { label: "on screen", detail: entry.onScreenMs === null ? "" : ms(entry.onScreenMs), done: entry.onScreenMs !== null };
  return [
    { label: "received", detail: entry.receivedMs === null ? "" : ms(entry.receivedMs), done: entry.receivedMs !== null },
    { label: "applied", detail: applied ? [`segment ${entry.segment}`, element("span", "receipt-wide", `, frame ${entry.frame}`)] : "", done: applied },
    ...(STILL.has(entry.kind) ? [] : [seen]),
  ];
}

/** A short name of the control. */
export function named(entry) {
  if (entry.kind === "prompt") return `“${entry.text}”`;
  const far = entry.kind === "rewind" && FAR.exec(entry.message ?? "")?.[1]; // the server may go back less than requested
  return [NAMES[entry.kind] ?? entry.kind, far || entry.text].filter(Boolean).join(" ");
}

/** The announcement once an entry is rejected or complete; otherwise null. */
export function spoken(entry) {
  if (entry.status === "rejected") return `Refused: ${entry.message || "the server gave no reason"}`;
  if (entry.onScreenMs !== null) return `${named(entry)} is on screen after ${ms(entry.onScreenMs)}`;
  return STILL.has(entry.kind) && entry.status === "applied" ? named(entry) : null;
}

export class ReceiptLine {
  /** `root` shows the line; `ear` is a live region for screen readers. */
  constructor(root, ear, hint) {
    Object.assign(this, { root, ear });
    this.entry = this.mix = null;
    this.hint(hint);
  }

  hint(text) {
    this.resting = text;
    this.#draw();
  }

  /** Another session is steered from now on: show its latest entry, or the hint. */
  recall(entry, hint) {
    this.entry = entry;
    this.hint(hint);
  }

  /** Show an entry that changed, unless a later one is shown. */
  show(entry) {
    if (this.entry && entry.sentAt < this.entry.sentAt) return;
    this.entry = entry;
    this.#draw();
    const words = spoken(entry);
    if (words && words !== this.said) this.ear.textContent = this.said = words;
  }

  /** The shares of the prompts being typed, [{text, percent}]; null if they are not mixed. */
  mixing(shares) {
    if (shares === null && this.mix === null) return;
    this.mix = shares;
    this.#draw();
  }

  #draw() {
    if (this.mix) this.root.replaceChildren(...this.mix.map(share));
    else if (!this.entry) this.root.replaceChildren(element("span", "receipt-hint", this.resting));
    else this.#steps(this.entry);
  }

  #steps(entry) {
    const what = element("span", "receipt-what", named(entry));
    what.title = entry.message ?? ""; // details from the server
    const ways = [WAYS[entry.how], WAYS[entry.when]].filter(Boolean).map((way) => element("span", "receipt-way", way));
    if (entry.status === "rejected") {
      this.root.replaceChildren(what, element("span", "receipt-no", entry.message || "The server refused this."));
      return;
    }
    const line = steps(entry).map(({ label, detail, done }) => {
      const step = element("span", done ? "step done" : "step");
      const value = element("b");
      value.append(...[detail].flat());
      step.append(element("i"), element("span", "", label), value);
      return step;
    });
    this.root.replaceChildren(what, ...ways, ...line);
  }
}

function share({ text, percent }) {
  const part = element("span", "share");
  const bar = element("i");
  bar.style.width = `${Math.max(3, percent * 0.6)}px`;
  part.append(bar, element("b", "", `${percent} %`), element("span", "receipt-what", text));
  return part;
}
