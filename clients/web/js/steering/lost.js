/**
 * What a restored server has lost, and which of the page's controls it is sent again (docs/protocol.md, "When worker
 * and gateway die together"). Sends nothing; independent of the page.
 */

export const WITHIN_MS = 300_000; // what is older is left alone: the video has gone on without it, and others steer
const LATEST_COUNTS = [["action"], ["pause", "resume"]]; // of each group only the latest control

/** Tells each loss of one session once. */
export class Losses {
  /** The session goes on elsewhere, without some frames if this `closed` event says so: they are lost as of the next `session` event. */
  ended({ lost_frames: told }) {
    if (isRange(told)) this.left = told;
  }

  /** The lost frames, [first, after], if this `session` event is the first that tells of them; otherwise null. */
  news({ lost_frames: told }) {
    const left = this.left ?? null;
    this.left = null;
    if (!isRange(told) || String(told) === this.known) return left;
    this.known = String(told);
    return left ? [Math.min(left[0], told[0]), Math.max(left[1], told[1])] : told;
  }
}

const isRange = (told) => Array.isArray(told) && told.length === 2;

/**
 * Of the entries of Receipts, oldest first, those that the server may not have. A rewind that was done is left out: the
 * past that it meant is lost too.
 */
export function toSendAgain(entries, [first, after], nowMs) {
  let kept = entries.filter(({ control }) => control !== null);
  for (const group of LATEST_COUNTS) {
    const latest = kept.findLast(({ kind }) => group.includes(kind));
    kept = kept.filter((entry) => entry === latest || !group.includes(entry.kind));
  }
  return kept.filter(({ kind, status, frame, sentAt }) => {
    if (nowMs - sentAt > WITHIN_MS || status === "rejected") return false;
    return status !== "applied" || (kind !== "rewind" && frame >= first && frame < after);
  });
}
