/**
 * Which session the page shows, how links name it, and the HTTP calls about it.
 *
 * A link is `?session=<id>` (none: the shared `main`), `&watch` for onlookers; the token stands behind `#`,
 * so that it reaches neither logs nor other sites.
 */

import { request } from "./whep.js";

export const SHARED = "main";

export class Session {
  constructor({ id = SHARED, token = null, viewToken = null, watch = false, mqtt = null } = {}) {
    this.id = id;
    this.token = token;
    this.viewToken = viewToken;
    this.watch = watch;
    this.mqtt = mqtt;
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

  get shared() {
    return this.id === SHARED;
  }

  get base() {
    return `v1/sessions/${encodeURIComponent(this.id)}`;
  }

  get whep() {
    return `${this.base}/whep`;
  }

  /** A link to this session: to go on steering it, or (`watch`) to look on; null if there is none to give. */
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

  /** What the server knows of it: the session's state and its model. */
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

  async remove() {
    await request(this.base, { method: "DELETE", token: this.token });
  }

  /** Open a session of one's own. */
  static async create(prompt) {
    const response = await request("v1/sessions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ prompt }),
    });
    const { id, token, view_token: viewToken = null, mqtt = null } = await response.json();
    return new Session({ id, token, viewToken, mqtt });
  }
}
