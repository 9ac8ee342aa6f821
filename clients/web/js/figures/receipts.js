/**
 * Follows every control: sent → received → applied → on screen, each in milliseconds since sending.
 *
 * "On screen" is measured: the receipt gives the first frame's time on the media clock (pts_90k), the clock message
 * says where that clock starts, and every shown frame has an RTP timestamp. In browsers that hide the timestamp there
 * is no figure, rather than a guess. Independent of the page.
 */

const KEEP = 40; // of each kind

/** Whether the 32-bit clock `now` has reached `target`; they are always less than half the range apart. */
export function reached(now, target) {
  return ((now - target) >>> 0) < 0x8000_0000;
}

export class Receipts extends EventTarget {
  /** "change" carries the entry that changed. */
  constructor() {
    super();
    this.entries = new Map();
    this.offset = null;
  }

  /** The newest entry of a kind ("prompt", "action", …), or null. */
  last(kind) {
    return [...this.entries.values()].reverse().find((entry) => entry.kind === kind) ?? null;
  }

  recent(kind) {
    return [...this.entries.values()].filter((entry) => entry.kind === kind).reverse();
  }

  /** Milliseconds from sending to the picture, for all controls of a kind that have reached the screen. */
  latencies(kind) {
    return this.recent(kind).map((entry) => entry.onScreenMs).filter((ms) => ms !== null);
  }

  /** `text` is shown to the user. The latest picture is kept with its control, older ones are too large for that. */
  sent(id, control, text = "") {
    const now = performance.now();
    const entry = {
      id, control, kind: control.type, text, how: control.how ?? null, when: control.when ?? null, since: now, sentAt: now, status: "sent",
      receivedMs: null, appliedMs: null, onScreenMs: null, segment: null, frame: null, due: null, message: null,
    };
    const before = this.last("image");
    if (before && entry.kind === "image") before.control = null;
    this.entries.set(id, entry);
    const same = this.recent(entry.kind);
    if (same.length > KEEP) this.entries.delete(same.at(-1).id);
    this.#tell(entry);
    return entry;
  }

  /** An entry is sent again, and followed from the start. */
  again(entry) {
    Object.assign(entry, {
      sentAt: performance.now(), status: "sent", receivedMs: null, appliedMs: null, onScreenMs: null, segment: null, frame: null, due: null,
    });
    this.#tell(entry);
  }

  /** Another session is steered from now on, which must not be sent what was meant for this one. */
  keepNone() {
    for (const entry of this.entries.values()) entry.control = null;
  }

  receipt({ id, status, segment, frame, pts_90k: pts, code, message }) {
    const entry = this.entries.get(id);
    if (!entry) return null;
    const ms = performance.now() - entry.sentAt;
    if (status === "received") entry.receivedMs ??= ms;
    if (status === "applied") {
      Object.assign(entry, { appliedMs: ms, segment, frame, message: message ?? null, due: Number.isFinite(pts) ? pts : null });
      entry.receivedMs ??= ms;
    }
    if (status === "rejected") Object.assign(entry, { code, message });
    if (entry.status !== "applied") entry.status = status;
    this.#tell(entry);
    return entry;
  }

  /** A frame with this RTP timestamp is shown at `atMs` (on the scale of performance.now()). */
  shown(rtpTimestamp, atMs) {
    if (this.offset === null || rtpTimestamp === undefined) return;
    for (const entry of this.entries.values()) {
      if (entry.due === null || entry.onScreenMs !== null) continue;
      if (!reached(rtpTimestamp, (entry.due + this.offset) >>> 0)) continue;
      entry.onScreenMs = atMs - entry.sentAt;
      this.#tell(entry);
    }
  }

  /** A new connection has a new media clock; entries not on screen yet are no longer measured. */
  clock(offset) {
    if (offset === this.offset) return; // the server may repeat the message
    this.offset = offset;
    for (const entry of this.entries.values()) if (entry.onScreenMs === null) entry.due = null;
  }

  #tell(entry) {
    this.dispatchEvent(new CustomEvent("change", { detail: entry }));
  }
}
