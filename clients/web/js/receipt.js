/** The line under the prompt: received → applied → on screen, as each comes true. */

import { element } from "./dom.js";

const ms = (n) => (n < 10_000 ? `${n < 10 ? n.toFixed(1) : Math.round(n)} ms` : `${(n / 1000).toFixed(1)} s`);
const NAMES = { pause: "Pause", resume: "Go on", reset: "New world", image: "Your picture" };

const STILL = new Set(["pause", "resume"]); // they bring no new picture

/** The steps of an entry: [{label, detail, done}]. */
export function steps(entry) {
  const applied = entry.appliedMs !== null;
  const seen = { label: "on screen", detail: entry.onScreenMs === null ? "" : ms(entry.onScreenMs), done: entry.onScreenMs !== null };
  return [
    { label: "received", detail: entry.receivedMs === null ? "" : ms(entry.receivedMs), done: entry.receivedMs !== null },
    { label: "applied", detail: applied ? ["segment ", entry.segment, `, frame ${entry.frame}`] : "", done: applied },
    ...(STILL.has(entry.kind) ? [] : [seen]),
  ];
}

export class ReceiptLine {
  constructor(root, hint) {
    this.root = root;
    this.entry = null;
    this.hint(hint);
  }

  hint(text) {
    this.resting = text;
    if (!this.entry) this.root.replaceChildren(element("span", "receipt-hint", text));
  }

  show(entry) {
    if (this.entry && entry.sentAt < this.entry.sentAt) return;
    this.entry = entry;
    const what = element("span", "receipt-what", entry.kind === "prompt" ? `“${entry.text}”` : NAMES[entry.kind] ?? entry.kind);
    if (entry.status === "rejected") {
      this.root.replaceChildren(what, element("span", "receipt-no", entry.message || "The server refused this."));
      return;
    }
    const line = steps(entry).map(({ label, detail, done }) => {
      const step = element("span", done ? "step done" : "step");
      const value = element("b");
      value.append(...[detail].flat().map((part) => (typeof part === "string" && Array.isArray(detail) ? element("span", "receipt-wide", part) : part)));
      step.append(element("i"), element("span", "", label), value);
      return step;
    });
    this.root.replaceChildren(what, ...line);
  }
}
