/**
 * The control channel: JSON messages over one RTCDataChannel, with pings that show whether it is alive.
 * Knows the wire format, not what the page does with a message.
 */

const PING_EVERY_MS = 1000;
let counter = 0;

/** An id that is unique on this page and very likely everywhere else. */
export function newId() {
  counter += 1;
  const random = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  return `web-${random}-${counter}`;
}

export class ControlChannel extends EventTarget {
  /** Each message is dispatched as an event named by its `type`, with the message as `detail`. */
  constructor(channel) {
    super();
    this.channel = channel;
    this.heardAt = performance.now();
    this.rttMs = null;
    this.pings = new Map();
    channel.onmessage = ({ data }) => this.#hear(data);
    this.timer = setInterval(() => this.#ping(), PING_EVERY_MS);
    this.#ping();
  }

  get open() {
    return this.channel.readyState === "open";
  }

  /** Send a control and return its id; null if the channel is not open (nothing is queued). */
  send(control) {
    if (!this.open) return null;
    const id = control.id ?? newId();
    this.channel.send(JSON.stringify({ ...control, id }));
    return id;
  }

  close() {
    clearInterval(this.timer);
    this.channel.onmessage = null;
  }

  #ping() {
    if (!this.open) return;
    const id = newId();
    if (this.pings.size > 8) this.pings.delete(this.pings.keys().next().value);
    this.pings.set(id, performance.now());
    this.channel.send(JSON.stringify({ type: "ping", id }));
  }

  #hear(data) {
    this.heardAt = performance.now();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof message?.type !== "string") return;
    if (message.type === "pong") {
      const sent = this.pings.get(message.id);
      this.pings.delete(message.id);
      if (sent !== undefined) this.rttMs = this.heardAt - sent;
      return;
    }
    this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
  }
}
