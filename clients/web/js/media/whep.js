/**
 * A WHEP client: posts one offer, gets one answer, a video track and a data channel.
 * Knows no sessions, controls or retries; every failure is an HttpError with a message for the user.
 */

export class HttpError extends Error {
  /** `status` is 0 if no server answered. */
  constructor(status, code, message, retryAfterS = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }
}

/** fetch, but every failure is an HttpError with the server's own code and message. */
export async function request(url, { method = "GET", token = null, headers = {}, ...rest } = {}) {
  const all = { ...headers };
  if (token) all.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(url, { method, headers: all, cache: "no-store", ...rest });
  } catch (error) {
    if (error.name === "AbortError" || error.name === "TimeoutError") {
      throw new HttpError(0, "timeout", "The server did not answer in time.");
    }
    throw new HttpError(0, "unreachable", "The server cannot be reached.");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const { code, message } = body.error ?? body;
  const after = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  throw new HttpError(
    response.status,
    code ?? `http_${response.status}`,
    message ?? (typeof body.detail === "string" ? body.detail : `The server answered ${response.status}.`),
    Number.isFinite(after) ? after : null,
  );
}

const REACH_EVERY_MS = 500; // browsers open six connections at most

/**
 * Waits until the server answers at this address, at most `withinMs`. Requests overlap: TCP repeats what was sent
 * while the link was down only after seconds, but a request made after the link is back succeeds at once.
 */
export async function reachable(url, withinMs, everyMs = REACH_EVERY_MS) {
  const gone = new AbortController();
  const until = performance.now() + withinMs;
  let answered = false;
  while (!answered && performance.now() < until) {
    await new Promise((resolve) => {
      setTimeout(resolve, everyMs);
      fetch(url, { method: "HEAD", cache: "no-store", signal: gone.signal }).then(() => resolve((answered = true)), () => {});
    });
  }
  gone.abort();
  return answered;
}

const VANISHED_MS = 1000; // other gateways say 503 at once if nobody listens at a viewer's, and later if it is slow

/** Whether a server says that this viewer is gone, or that its gateway is. No answer says nothing. */
export async function vanished(resource) {
  try {
    const { status } = await fetch(resource, { cache: "no-store", signal: AbortSignal.timeout(VANISHED_MS) });
    return status === 404 || status === 503;
  } catch {
    return false;
  }
}

const PATIENT_MS = 2000;
const GATHER_MS = 2000; // how long an offer waits for a relay's address

/** The ICE servers in a Link header, as RTCPeerConnection takes them: `<turn:host?transport=tcp>; rel="ice-server"; …`. */
export function iceServersOf(header) {
  return [...(header ?? "").matchAll(/<((?:stun|turns?):[^>]+)>([^<]*)/g)].flatMap(([, urls, rest]) => {
    if (!/;\s*rel="?ice-server"?/.test(rest)) return [];
    const value = (name) => rest.match(new RegExp(`;\\s*${name}="([^"]*)"`))?.[1];
    return [{ urls, username: value("username"), credential: value("credential") }];
  });
}

export class WhepClient {
  /**
   * `onTrack(stream)`, `onChannel(channel)` and `onLost(why)` are optional; none is called after close(). With `patient`,
   * onTrack waits for the first packet.
   */
  constructor({ url, token = null, iceServers = [], patient = false, onTrack, onChannel, onLost }) {
    this.url = url;
    this.token = token;
    this.relayed = iceServers.length > 0;
    this.iceServers = iceServers; // once the server has answered, those that it names
    this.resource = null;
    this.closed = false;
    this.shown = false; // set by the player of the stream
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers });
    this.pc.addTransceiver("video", { direction: "recvonly" });
    const channel = this.pc.createDataChannel("control");
    const tell = (handler, ...args) => { if (!this.closed) handler?.(...args); };
    this.pc.ontrack = ({ track, streams }) => {
      const show = () => tell(onTrack, streams[0] ?? new MediaStream([track]));
      if (!patient || !track.muted) return show();
      track.addEventListener("unmute", show, { once: true });
      setTimeout(show, PATIENT_MS);
    };
    channel.onopen = () => tell(onChannel, channel);
    channel.onclose = () => tell(onLost, "channel");
    this.pc.onconnectionstatechange = () => {
      if (this.pc.connectionState === "failed") tell(onLost, "media");
    };
  }

  /**
   * Negotiate. The offer is sent without waiting for ICE candidates: the server learns our address from our connectivity
   * checks. With ICE servers it waits: a server that is itself behind a relay must know our address. `startKbps` is what
   * the last connection carried; the video starts with that.
   */
  async open({ timeoutMs = 10_000, startKbps = null } = {}) {
    await this.pc.setLocalDescription(await this.pc.createOffer());
    if (this.relayed) await this.#gathered();
    const url = new URL(this.url, window.location.href);
    if (startKbps) url.searchParams.set("start_kbps", startKbps);
    const response = await request(url, {
      method: "POST",
      token: this.token,
      headers: { "Content-Type": "application/sdp" },
      body: this.pc.localDescription.sdp,
      signal: AbortSignal.timeout(timeoutMs),
    });
    this.iceServers = iceServersOf(response.headers.get("Link"));
    const location = response.headers.get("Location");
    if (location) this.resource = new URL(location, new URL(this.url, window.location.href)).href;
    const sdp = await response.text();
    if (this.closed) return this.#leave();
    await this.pc.setRemoteDescription({ type: "answer", sdp });
  }

  #gathered() {
    return new Promise((resolve) => {
      setTimeout(resolve, GATHER_MS);
      this.pc.onicegatheringstatechange = () => this.pc.iceGatheringState === "complete" && resolve();
    });
  }

  /** Stop all callbacks; the video plays on. */
  detach() {
    this.closed = true;
  }

  /** Delete the resource on the server (this works while the page unloads) and stop all callbacks, but keep the last picture. */
  leave() {
    this.closed = true;
    this.#leave();
  }

  /** Idempotent. */
  close() {
    this.leave();
    this.pc.close();
  }

  #leave() {
    if (!this.resource) return;
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    fetch(this.resource, { method: "DELETE", headers, keepalive: true }).catch(() => {});
    this.resource = null;
  }
}
