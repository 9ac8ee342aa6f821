/**
 * The session that the page shows, the links to it, and the HTTP calls about it.
 *
 * A link is `?session=<id>` (without it: the shared `main`), plus `&watch` for viewers who may not steer and
 * `&beside=<id>` for a second future. Tokens go after `#`, so they reach neither logs nor other sites.
 */

import { request } from "../media/whep.js";

export const SHARED = "main";

export class Session {
  constructor({ id = SHARED, token = null, viewToken = null, watch = false } = {}) {
    this.id = id;
    this.token = token;
    this.viewToken = viewToken;
    this.watch = watch;
  }

  static fromLocation({ search, hash }) {
    const query = new URLSearchParams(search);
    const secret = new URLSearchParams(hash.slice(1));
    return new Session({
      id: query.get("session") || SHARED,
      token: secret.get("token") || query.get("token"),
      watch: query.has("watch"),
      viewToken: secret.get("view"),
    });
  }

  /** The session of the second pane, or null. */
  static besideFrom({ search, hash }) {
    const id = new URLSearchParams(search).get("beside");
    return id && new Session({ id, token: new URLSearchParams(hash.slice(1)).get("beside") });
  }

  get shared() {
    return this.id === SHARED;
  }

  get base() {
    return `v1/sessions/${encodeURIComponent(this.id)}`;
  }

  get whep() {
    return `${this.base}/whep`;
  }

  /** A link for steering this session or, with `watch`, for watching it; null if this page has no token to share. */
  link({ watch = false } = {}) {
    const url = new URL(window.location.pathname, window.location.origin);
    if (!this.shared) url.searchParams.set("session", this.id);
    if (watch) url.searchParams.set("watch", "1");
    const secret = new URLSearchParams();
    const token = watch ? (this.watch ? this.token : this.viewToken) : this.token;
    if (watch && !token && (this.token || !this.shared)) return null;
    if (token) secret.set("token", token);
    if (!watch && this.viewToken) secret.set("view", this.viewToken);
    url.hash = secret.toString();
    return url.href.replace("watch=1", "watch");
  }

  /** The page's address with this session and, if given, a second one beside it. */
  address(beside = null) {
    const url = new URL(this.link({ watch: this.watch }) ?? window.location.href);
    if (!beside) return url.href;
    url.searchParams.set("beside", beside.id);
    const secret = new URLSearchParams(url.hash.slice(1));
    if (beside.token) secret.set("beside", beside.token);
    url.hash = secret.toString();
    return url.href;
  }

  /** The session's state and model, as the server reports them. */
  async look() {
    return (await request(this.base, { token: this.token })).json();
  }

  async control(body, { keepalive = false } = {}) {
    const response = await request(`${this.base}/controls`, {
      method: "POST",
      keepalive,
      token: this.token,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    return response.json();
  }

  /** Open another session with the same past. */
  async fork() {
    const response = await request(`${this.base}/fork`, {
      method: "POST",
      token: this.token,
      headers: { "Content-Type": "application/json" },
      body: "{}",
    });
    return Session.of(await response.json());
  }

  /** The address of the page for somebody who may watch ("viewer") or steer ("driver") for so many seconds. */
  async share(role, seconds) {
    const response = await request(`${this.base}/links`, {
      method: "POST",
      token: this.token,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ role, expires_in_s: seconds }),
    });
    return (await response.json()).page;
  }

  /** The current state as a file. */
  async snapshot() {
    return (await request(`${this.base}/snapshot`, { token: this.token })).blob();
  }

  async remove() {
    await request(this.base, { method: "DELETE", token: this.token });
  }

  /** Open a private session. */
  static async create(prompt) {
    return Session.#open(JSON.stringify({ prompt }), "application/json");
  }

  /** Open a private session that continues from a saved moment. */
  static async restore(file) {
    return Session.#open(file, "application/octet-stream");
  }

  static async #open(body, type) {
    const response = await request("v1/sessions", { method: "POST", headers: { "Content-Type": type }, body });
    return Session.of(await response.json());
  }

  /** Create a Session from the server's answer to opening one. */
  static of({ id, token = null, view_token: viewToken = null }) {
    return new Session({ id, token, viewToken });
  }
}
