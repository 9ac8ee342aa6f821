/**
 * Turns keys, touches and pad buttons into actions: the latest one held wins, letting go releases.
 *
 * The server samples what is held when a segment starts, so a short tap could fall between two segments.
 * A release therefore waits until its action was applied (or `holdMs` have passed): every tap moves.
 */

const HOLD_MS = 3000; // only where no answer comes: a busy server may be late, and the tap must not be lost to it
const SEGMENTS = 2.5; // one is under way, the next one takes the action up and is made
const KEYS = {
  ArrowLeft: "left", KeyA: "left",
  ArrowRight: "right", KeyD: "right",
  ArrowUp: "jump", KeyW: "jump", Space: "jump",
};

export class Walker extends EventTarget {
  /** `send(action | null)` returns the control's id, or null. "change" carries the action now held. */
  constructor(send) {
    super();
    this.send = send;
    this.held = []; // [source, action], oldest first
    this.current = null; // {action, id, applied, leaving}
    this.owed = false; // the last word did not get through
    this.enabled = true;
    this.holdMs = HOLD_MS;
  }

  /** A segment takes so long to make: a slow device needs a longer hold. */
  pace(segmentMs) {
    this.holdMs = Math.max(HOLD_MS, SEGMENTS * segmentMs);
  }

  get action() {
    return this.current?.action ?? null;
  }

  press(source, action) {
    if (!this.enabled || this.held.some(([known]) => known === source)) return;
    this.held.push([source, action]);
    this.#go(action);
  }

  release(source) {
    const before = this.held.length;
    this.held = this.held.filter(([known]) => known !== source);
    if (this.held.length < before) this.#settle();
  }

  releaseAll() {
    if (!this.held.length) return;
    this.held = [];
    this.#settle();
  }

  /** There is a new connection: what is held now is said again, and a release that found none is made up for. */
  resync() {
    if (!this.owed && !this.current) return;
    const before = this.action;
    this.#say(this.held.at(-1)?.[1] ?? null);
    if (this.action !== before) this.#tell();
  }

  /** Another video from now on; whether the one before is still to be told that nobody holds a key any more. */
  leave() {
    const walked = this.current !== null || this.owed;
    const lit = this.action !== null;
    Object.assign(this, { held: [], current: null, owed: false });
    if (lit) this.#tell();
    return walked;
  }

  /** A receipt of a control that this walker sent. */
  receipt({ id, status }) {
    if (this.current?.id !== id || status === "received") return;
    this.current.applied = true;
    if (this.current.leaving) this.#settle();
  }

  #settle() {
    const next = this.held.at(-1)?.[1] ?? null;
    if (next !== null) return this.#go(next);
    if (this.current === null) return;
    if (!this.current.applied && this.current.id !== null) {
      this.current.leaving = true;
      const { id } = this.current;
      setTimeout(() => this.current?.id === id && !this.held.length && this.#go(null), this.holdMs);
      return;
    }
    this.#go(null);
  }

  #go(action) {
    if (action === this.action && !this.current?.leaving) return;
    if (action !== null && action === this.action) {
      this.current.leaving = false; // pressed again before the release went out
      return;
    }
    this.#say(action);
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new CustomEvent("change", { detail: this.action }));
  }

  #say(action) {
    const id = this.send(action);
    this.owed = id === null;
    this.current = action === null ? null : { action, id, applied: false, leaving: false };
  }
}

/** Is this element one to type in? Then keys are text. */
export function typing(element) {
  return element instanceof Element && element.matches("input:not([type=file]), textarea, select, [contenteditable]");
}

/** Listen to the keyboard; `walker()` is whose keys they are. */
export function attachKeys(walker) {
  window.addEventListener("keydown", (event) => {
    const action = KEYS[event.code];
    if (!action || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (event.code === "Space" && event.target instanceof HTMLButtonElement) return;
    event.preventDefault();
    if (!event.repeat) walker().press(event.code, action);
  });
  window.addEventListener("keyup", (event) => walker().release(event.code));
  window.addEventListener("blur", () => walker().releaseAll());
  document.addEventListener("visibilitychange", () => document.hidden && walker().releaseAll());
  document.addEventListener("focusin", (event) => typing(event.target) && walker().releaseAll());
}

/** Listen to every [data-action] inside `pads`. */
export function attachPads(pads, walker) {
  for (const button of pads.querySelectorAll("[data-action]")) {
    const { action } = button.dataset;
    button.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      button.setPointerCapture(event.pointerId);
      walker().press(button, action);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(name, () => walker().release(button));
    }
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    button.addEventListener("keydown", ({ key, repeat }) => {
      if ((key === "Enter" || key === " ") && !repeat) walker().press(button, action);
    });
    button.addEventListener("keyup", () => walker().release(button));
    button.addEventListener("blur", () => walker().release(button));
  }
}
