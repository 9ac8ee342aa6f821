/** Wires the page: modules know their own thing, this file knows which of them talk to each other. */

import { Ask } from "./ask.js";
import { Connection, FINAL } from "./connection.js";
import { newId } from "./control.js";
import { Figures } from "./figures.js";
import { attach, typing, Walker } from "./keys.js";
import { Ledger } from "./ledger.js";
import { Notices } from "./notices.js";
import { Pace } from "./pace.js";
import { Panel } from "./panel.js";
import { accept, prepare } from "./picture.js";
import { ReceiptLine } from "./receipt.js";
import { Screen } from "./screen.js";
import { Session } from "./session.js";
import { Share } from "./share.js";
import { HINT, TOUCH_HINT, WATCHING } from "./states.js";
import { say, surprise } from "./vocabulary.js";
import { Words } from "./words.js";

const $ = (id) => document.getElementById(id);
const { body } = document;
const STALLED_MS = 3000;
const hint = window.matchMedia("(hover: none)").matches ? TOUCH_HINT : HINT;

let session = Session.fromLocation(window.location);
let paused = false;
let waiting = null; // a prompt for which there was no connection yet; the latest wins

const notices = new Notices({ pill: $("status-text"), curtain: $("curtain"), title: $("curtain-title"), text: $("curtain-text"), actions: $("curtain-actions"), toast: $("toast") });
const mode = new URLSearchParams(window.location.search).get("render") ?? "auto";
const screen = new Screen({ video: $("video"), canvas: $("canvas"), glow: $("glow"), mode });
const connection = new Connection();
const ledger = new Ledger();
const figures = new Figures();
const pace = new Pace({ root: $("pace"), word: $("pace-word"), figure: $("pace-figure"), ring: $("pace-ring") });
const line = new ReceiptLine($("receipt"), hint);
const panel = new Panel({ root: $("panel"), toggle: $("panel-toggle"), screen, ledger, figures, connection });
const share = new Share({ button: $("share"), card: $("share-card"), link: $("share-link"), copy: $("share-copy"), text: $("share-text") });
const walker = new Walker((action) => send({ type: "action", action }));
const words = new Words({ row: $("chips"), card: $("words"), choose: (text, how) => prompt(text, how ?? ask.how) });
const ask = new Ask({ form: $("ask"), input: $("prompt"), modes: $("ask").querySelectorAll("[data-how]"), leave: () => $("frame").focus(), submit: prompt });

// ---- sending ----

function send(control) {
  if (session.watch) return null;
  const id = connection.control?.send(control) ?? null;
  if (id !== null) ledger.sent(id, control);
  else if (control.type === "prompt" && !FINAL.has(connection.phase)) waiting = control;
  if (id === null && control.type !== "action") {
    notices.toast(waiting === control ? "Not connected yet. It will be sent as soon as it can be." : "Not connected: nothing was sent.");
  }
  return id;
}

function prompt(text, how) {
  return send({ type: "prompt", text, how }) !== null || waiting?.text === text;
}

async function sendImage(file) {
  const id = newId();
  try {
    const control = { id, type: "image", data: await prepare(file) };
    ledger.sent(id, { type: "image" });
    ledger.receipt(await session.control(control));
  } catch (error) {
    notices.toast(error.message);
    ledger.receipt({ id, status: "rejected", code: error.code, message: error.message });
  }
}

// ---- sessions ----

function go(next, { push = true } = {}) {
  session = next;
  waiting = null;
  if (push) window.history.pushState(null, "", session.link({ watch: session.watch }) ?? window.location.href);
  figures.reset();
  pace.reset();
  line.entry = null;
  walker.releaseAll();
  watchOnly(session.watch);
  $("session-label").textContent = session.shared ? "shared session" : "private session";
  $("end-private").hidden = session.shared || session.watch || !session.token;
  share.offer(session.link({ watch: true }));
  connection.start(session);
}

function watchOnly(on) {
  session.watch = on;
  body.classList.toggle("watch-only", on);
  walker.enabled = !on;
  for (const control of $("dock").querySelectorAll("input, button")) control.disabled = on;
  line.hint(on ? WATCHING : hint);
}

async function create() {
  try {
    go(await Session.create(say(surprise())));
  } catch (error) {
    notices.toast(error.status === 0 ? "The server cannot be reached, so no session could be made." : error.message);
  }
}

async function end() {
  const old = session;
  go(new Session());
  await old.remove().catch((error) => notices.toast(error.message));
}

// ---- what comes in ----

connection.addEventListener("phase", ({ detail }) => {
  body.dataset.phase = detail.phase;
  notices.phase(detail, { retry: () => connection.retry(), main: () => go(new Session()), create });
  if (FINAL.has(detail.phase) || detail.phase === "gone") walker.releaseAll();
});
connection.addEventListener("stream", ({ detail }) => {
  screen.show(detail);
  learn(session);
});
connection.addEventListener("control", ({ detail: control }) => {
  const on = (type, handler) => control.addEventListener(type, ({ detail }) => handler(detail));
  on("clock", ({ rtp_offset: offset }) => ledger.clock(offset));
  on("segment", (message) => {
    figures.segment(message);
    pace.segment(message);
    walker.pace((figures.playbackMs ?? 0) / (message.speed || 1));
  });
  on("session", follow);
  on("receipt", (receipt) => {
    walker.receipt(receipt);
    const entry = ledger.receipt(receipt);
    if (entry && receipt.status === "rejected" && receipt.code === "forbidden") watchOnly(true);
  });
  on("error", ({ message }) => notices.toast(message));
  walker.resync();
  const held = waiting;
  waiting = null;
  if (held) send(held);
});

async function learn(of) {
  const { model = null } = await of.look().catch(() => ({}));
  if (of !== session || !model) return;
  screen.native = model.width;
  figures.model = model;
}

function follow(info) {
  figures.session(info);
  pace.session(info);
  paused = info.paused;
  body.classList.toggle("paused", paused);
  $("pause").setAttribute("aria-label", paused ? "Go on" : "Pause");
  $("pause").title = paused ? "Go on (P)" : "Pause (P)";
  $("pause").querySelector("use").setAttribute("href", paused ? "#i-play" : "#i-pause");
  $("caption").textContent = info.prompt;
  words.follow(info.prompt);
  if (paused && screen.waiting) notices.note("The session is paused", "Press play to go on.");
  if (info.buffering && screen.waiting) notices.making(info.buffering.resumes_in_s);
}

screen.addEventListener("first", ({ detail: { width, height } }) => {
  if (width && height) $("stage").style.setProperty("--aspect", String(width / height));
  connection.picture();
});
screen.addEventListener("frame", ({ detail }) => ledger.shown(detail.rtpTimestamp, detail.atMs));
ledger.addEventListener("change", ({ detail: entry }) => {
  if (entry.kind !== "action" || entry.status === "rejected") line.show(entry);
});
walker.addEventListener("change", ({ detail: action }) => {
  body.classList.add("has-walked");
  for (const key of document.querySelectorAll("[data-action]")) key.classList.toggle("down", key.dataset.action === action);
});
setInterval(() => {
  if (connection.phase !== "live" || document.hidden) return;
  const stalled = !paused && !pace.waiting && Math.max(screen.ageMs ?? 0, figures.silentMs) > STALLED_MS;
  notices.live(paused ? "Paused" : pace.state === "buffering" ? "Buffering" : stalled ? "No new frames" : "Live", stalled || pace.state === "buffering");
}, 500);

// ---- what people do ----

attach(walker, body);
accept({ input: $("file"), button: $("from-image"), veil: $("drop"), enabled: () => !session.watch, take: sendImage });

const togglePause = () => send({ type: paused ? "resume" : "pause" });
const fullscreen = () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.())?.catch(() => {});
$("pause").addEventListener("click", togglePause);
$("new-world").addEventListener("click", () => send({ type: "reset", seed: crypto.getRandomValues(new Uint32Array(1))[0] }));
$("fullscreen").addEventListener("click", fullscreen);
$("new-private").addEventListener("click", create);
$("end-private").addEventListener("click", end);

window.addEventListener("keydown", (event) => {
  screen.resume();
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing(event.target)) return;
  const onButton = event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement;
  if (event.key === "/" || (event.key === "Enter" && !onButton)) {
    event.preventDefault();
    $("prompt").focus();
  } else if (event.key === "i") panel.flip();
  else if (event.key === "f") fullscreen();
  else if (event.key === "p") togglePause();
});
window.addEventListener("pointerdown", () => screen.resume());
window.addEventListener("popstate", () => go(Session.fromLocation(window.location), { push: false }));
window.addEventListener("pagehide", () => {
  if (walker.action) session.control({ type: "action", action: null }, { keepalive: true }).catch(() => {});
  connection.stop();
});
window.addEventListener("pageshow", ({ persisted }) => persisted && connection.retry());
window.addEventListener("online", () => connection.phase !== "live" && connection.retry());

/** For tests and the curious: read-only. */
Object.defineProperty(window, "psistream", {
  value: Object.freeze({
    get framesShown() { return screen.framesShown; },
    get lastReceipt() { const entry = ledger.last("prompt"); return entry && { ...entry }; },
    get state() { return connection.phase; },
    get pace() { return pace.state; },
  }),
});

go(session, { push: false });
