/**
 * Turns keys, touches and pad buttons into held actions; the latest one wins.
 *
 * The server samples the held action when a segment starts, so a short tap could fall between two segments.
 * A release therefore waits until its action was applied (or `holdMs` have passed), so every tap counts.
 */

const HOLD_MS = 3000; // how long to hold without an answer: a busy server may be late, and the tap must not be lost
const SEGMENTS = 2.5; // one is being generated, the next one applies the action
const KEYS = {
  ArrowLeft: "left", KeyA: "left",
  ArrowRight: "right", KeyD: "right",
  ArrowUp: "jump", KeyW: "jump", Space: "jump",
};

export const USUAL_ACTIONS = ["idle", "left", "right", "jump"];
const DEFAULTS = new Set(USUAL_ACTIONS);
const ARROWS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };

/** Key code → action for a model with these actions: the usual keys for known actions, free arrow keys for others. */
export function keysFor(actions) {
  const keys = Object.fromEntries(Object.entries(KEYS).filter(([, action]) => actions.includes(action)));
  const others = actions.filter((action) => !DEFAULTS.has(action));
  for (const code of Object.keys(ARROWS)) {
    if (!(code in keys) && others.length) keys[code] = others.shift();
  }
  return keys;
}

export class Walker extends EventTarget {
  /** `send(action | null)` returns the control's id, or null. "change" carries the held action. */
  constructor(send) {
    super();
    this.send = send;
    this.held = []; // [source, action], oldest first
    this.current = null; // {action, id, applied, leaving}
    this.owed = false; // the last change could not be sent
    this.enabled = true;
    this.holdMs = HOLD_MS;
  }

  /** Adapt to how long a segment takes: a slow device needs a longer hold. */
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

  /** On a new connection, send the held action again, or a release that could not be sent. */
  resync() {
    if (!this.owed && !this.current) return;
    const before = this.action;
    this.#say(this.held.at(-1)?.[1] ?? null);
    if (this.action !== before) this.#tell();
  }

  /** Forget all keys. Returns whether a release must still be sent to the session. */
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

/** Whether the element takes typed text. */
export function typing(element) {
  return element instanceof Element && element.matches("input:not([type=file]), textarea, select, [contenteditable]");
}

/** Listen to the keyboard; keys go to `walker()`, whose model has `actions()`. */
export function attachKeys(walker, actions) {
  window.addEventListener("keydown", (event) => {
    const action = keysFor(actions())[event.code];
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

/** Show a button for each of the model's `actions` inside `pads`. An action without an icon gets a text button. */
export function showActions(pads, actions, walker) {
  const drawn = new Set();
  for (const button of pads.querySelectorAll("[data-action]")) {
    drawn.add(button.dataset.action);
    button.hidden = !actions.includes(button.dataset.action);
  }
  const keys = Object.entries(keysFor(actions));
  for (const action of actions.filter((name) => !drawn.has(name) && !DEFAULTS.has(name))) {
    const button = document.createElement("button");
    const key = ARROWS[keys.find(([, name]) => name === action)?.[0]] ?? "";
    Object.assign(button, { type: "button", textContent: `${key} ${action}`.trim() });
    button.dataset.action = action;
    attachPad(button, walker);
    pads.append(button);
  }
  document.body.classList.toggle("named-actions", actions.some((name) => !DEFAULTS.has(name)));
}

/** Listen to every [data-action] inside `pads`. */
export function attachPads(pads, walker) {
  for (const button of pads.querySelectorAll("[data-action]")) attachPad(button, walker);
}

function attachPad(button, walker) {
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
