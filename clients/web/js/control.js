/**
 * The control channel: JSON messages over one RTCDataChannel, and the pulse that tells whether it lives.
 * It knows the wire format; it does not know what the page makes of a message.
 */

const PING_EVERY_MS = 1000;
let counter = 0;

/** An id no other control of this page, and hardly one of another page, has. */
export function newId() {
  counter += 1;
  const random = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  return `web-${random}-${counter}`;
}

export class ControlChannel extends EventTarget {
  /** Events carry the message as `detail` and are named by its `type`; "rtt" carries milliseconds. */
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

  /** Send a control; its id, or null if the channel is not open (nothing is queued for later). */
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
