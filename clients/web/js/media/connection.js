/**
 * Keeps one session connected: connects, detects a dead connection, reconnects with growing pauses.
 *
 * Phases: connecting → waiting (connected, no picture yet) → live; reconnecting, gone (no answer),
 * blocked (HTTP answers, WebRTC does not get through), restarting (no engine yet), full, unknown, lost (the
 * session existed before), refused, ended, unsupported. Independent of the page; dispatches "phase", "stream" and "control".
 */

import { ControlChannel } from "./control.js";
import { HttpError, WhepClient, reachable, vanished } from "./whep.js";

const SILENT_MS = 4000; // the server counts as gone after this long without a message, even a pong
const DOUBT_MS = 1500; // then the server is asked whether this viewer is still there
const OPENING_MS = 10_000; // WebRTC counts as blocked if no control channel opens within this time of the answer
const RELAY_MS = 2500; // the same if the server names ICE servers that were not used yet
const CHECK_MS = 500;
const QUICK_ATTEMPTS = 60; // once a picture has been shown, the link may return at any moment
const QUICK_PAUSE_MS = 250;
const REACH_MS = 3000; // a link that takes longer for one request carries no video
const TIMEOUT_MS = 10_000; // of the first attempt
const GONE_AFTER = 2; // unanswered attempts before the page says that the server is gone

const BLOCKED = new HttpError(0, "blocked", "The connection could not be established.");

/** Phases that only the user can leave. */
export const FINAL = new Set(["unknown", "lost", "refused", "ended", "unsupported"]);

/** The pause before the next attempt: what the server asks for, at most a minute; otherwise exponential. */
export function retryDelayMs(attempt, retryAfterS = null, random = Math.random()) {
  if (retryAfterS !== null) return Math.min(Math.max(retryAfterS, 1), 60) * 1000;
  return Math.min(500 * 2 ** Math.min(attempt, 5), 8000) * (0.8 + 0.4 * random);
}

/** The phase to show after a failed attempt. */
export function phaseOf(error, hadPicture, attempt) {
  if (error instanceof HttpError) {
    if (error.status === 404 || error.status === 410) return hadPicture ? "lost" : "unknown";
    if (error.status === 401 || error.status === 403) return "refused";
    if (error.code === "full") return "full";
    if (error.code === "unavailable" || error.code === "worker_lost") return "restarting";
    if (error.status === 400 || error.status === 406 || error.status === 415) return "unsupported";
    if (error.code === "blocked") return hadPicture ? "reconnecting" : "blocked";
    if (error.status === 0 && attempt >= GONE_AFTER) return "gone";
  }
  return hadPicture ? "reconnecting" : attempt >= GONE_AFTER ? "gone" : "connecting";
}

export class Connection extends EventTarget {
  constructor() {
    super();
    this.session = null;
    this.client = null;
    this.doubted = null; // the client whose server is being asked about it
    this.former = null; // the previous connection; its last picture stays until a new one arrives
    this.control = null;
    this.phase = "connecting";
    this.hadPicture = false;
    this.attempt = 0;
    this.kbps = null; // of the rung that the server showed last
    this.iceServers = []; // empty until a direct connection has failed
    this.checks = setInterval(() => this.#check(), CHECK_MS);
  }

  get pc() {
    return this.client?.pc ?? null;
  }

  /** Show this session from now on. */
  start(session) {
    this.session = session;
    this.hadPicture = false;
    this.attempt = 0;
    this.#connect();
  }

  retry() {
    this.attempt = 0;
    this.#connect();
  }

  /** The first picture is on the screen. Returns false if it belongs to no connection: an ending stream may draw a blank picture. */
  picture() {
    if (!this.client || !["waiting", "blocked"].includes(this.phase)) return false;
    this.hadPicture = this.client.shown = true;
    this.attempt = 0;
    this.#enter("live");
    return true;
  }

  /** Disconnect until start() or retry(). */
  stop() {
    clearTimeout(this.timer);
    this.#drop();
    this.#forget();
  }

  /** Disconnect for good. */
  close() {
    clearInterval(this.checks);
    this.stop();
  }

  /** The server ended the session. */
  ended(message) {
    this.stop();
    this.#enter("ended", { message });
  }

  async #connect() {
    clearTimeout(this.timer);
    this.#drop();
    this.startedAt = performance.now();
    if (typeof RTCPeerConnection === "undefined") return this.#enter("unsupported", { message: "This browser has no WebRTC." });
    if (!["gone", "blocked"].includes(this.phase)) this.#enter(this.hadPicture ? "reconnecting" : "connecting");
    if (this.hadPicture && this.attempt) {
      const turn = (this.turn = Symbol("turn"));
      const answered = await reachable(this.session.whep, REACH_MS);
      if (this.turn !== turn) return;
      if (!answered) return this.#again(new HttpError(0, "unreachable", "The server cannot be reached."));
    }
    let client;
    try {
      client = this.client = new WhepClient({
        url: this.session.whep,
        token: this.session.token,
        iceServers: this.iceServers,
        patient: this.former?.resource != null, // it still plays
        onTrack: (stream) => {
          this.dispatchEvent(new CustomEvent("stream", { detail: stream }));
          this.#forget();
        },
        onChannel: (channel) => this.#listen(channel),
        onLost: () => this.#again(this.control ? new HttpError(0, "lost", "The connection was lost.") : BLOCKED),
      });
    } catch (error) { // WebRTC exists but is disabled
      return this.#enter("unsupported", { message: error.message });
    }
    try {
      await client.open({ timeoutMs: this.attempt ? TIMEOUT_MS / 2 : TIMEOUT_MS, startKbps: this.kbps });
      this.startedAt = performance.now();
      if (this.client === client && this.phase !== "blocked") this.#enter("waiting"); // once blocked, only a picture changes the message
    } catch (error) {
      if (this.client === client) this.#again(error);
    }
  }

  #listen(channel) {
    this.control = new ControlChannel(channel);
    this.control.addEventListener("link", ({ detail }) => { this.kbps = detail.kbps; });
    this.control.addEventListener("closed", ({ detail }) => {
      if (detail.code === "idle" || (detail.code === "closed" && !this.session.shared)) this.ended(detail.message);
      else this.#again(new HttpError(0, detail.code, detail.message));
    });
    this.dispatchEvent(new CustomEvent("control", { detail: this.control }));
  }

  #again(error) {
    this.#drop(error.code === "moved");
    const phase = phaseOf(error, this.hadPicture, this.attempt);
    if (FINAL.has(phase)) return this.#enter(phase, { message: error.message });
    const quick = this.hadPicture && error instanceof HttpError && error.status === 0 && this.attempt < QUICK_ATTEMPTS;
    const pauseMs = quick ? QUICK_PAUSE_MS : retryDelayMs(this.attempt, error.retryAfterS ?? null);
    this.attempt += 1;
    this.#enter(phase, { message: error.message, retryAtMs: performance.now() + pauseMs });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#connect(), pauseMs);
  }

  /** With `plays`, its video plays until the next one does: the gateway goes on until its viewers have joined another one. */
  #drop(plays = false) {
    this.turn = null;
    this.control?.close();
    this.control = null;
    const { client } = this;
    this.client = null;
    if (!client?.shown) return client?.close();
    if (plays) client.detach();
    else client.leave();
    this.#forget();
    this.former = client;
  }

  #forget() {
    this.former?.close();
    this.former = null;
  }

  #check() {
    if (!this.client || !["waiting", "blocked", "live"].includes(this.phase)) return;
    const now = performance.now();
    if (!this.control) {
      const waited = now - this.startedAt;
      const { relayed, iceServers } = this.client;
      if (!relayed && iceServers.length && waited > RELAY_MS) {
        this.iceServers = iceServers;
        this.#connect();
      } else if (waited > OPENING_MS) this.#again(BLOCKED);
    } else if (this.#silent(SILENT_MS)) this.#again(new HttpError(0, "silent", "The server went silent."));
    else if (this.#silent(DOUBT_MS)) this.#doubt();
  }

  #silent(forMs) {
    return this.control !== null && performance.now() - this.control.heardAt > forMs;
  }

  /** Connect again if the gateway is gone, as another one says that the load balancer asks: not if it is only busy, or the link is away. */
  async #doubt() {
    const { client } = this;
    if (this.doubted === client || !client.resource) return;
    this.doubted = client; // one request at a time
    const gone = await vanished(client.resource);
    this.doubted = null;
    if (gone && this.client === client && this.#silent(DOUBT_MS)) this.#again(new HttpError(0, "lost", "The connection was lost."));
  }

  #enter(phase, { message = "", retryAtMs = null } = {}) {
    this.phase = phase;
    this.dispatchEvent(new CustomEvent("phase", { detail: { phase, message, retryAtMs } }));
  }
}
