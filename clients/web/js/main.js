/** Wires the page: modules know their own thing, this file knows which of them talk to each other. */

import { Ask } from "./ask.js";
import { FINAL } from "./connection.js";
import { accept, download, isMoment } from "./files.js";
import { Futures } from "./futures.js";
import { Help } from "./help.js";
import { attachKeys, attachPads, typing } from "./keys.js";
import { patiently } from "./opening.js";
import { Panel } from "./panel.js";
import { ReceiptLine } from "./receipt.js";
import { Session } from "./session.js";
import { Share } from "./share.js";
import { HINT, TOUCH_HINT, WATCHING } from "./states.js";
import { Toast } from "./toast.js";
import { say, surprise } from "./vocabulary.js";
import { Words } from "./words.js";

const $ = (id) => document.getElementById(id);
const { body } = document;
const REWIND_S = 5; // by one key
const hint = window.matchMedia("(hover: none)").matches ? TOUCH_HINT : HINT;

const toast = new Toast({ box: $("toast"), text: $("toast-text"), left: $("toast-left"), stop: $("toast-stop") });
const line = new ReceiptLine($("receipt"), $("spoken"), hint);
const panel = new Panel({ root: $("panel"), toggle: $("panel-toggle") });
const share = new Share({ button: $("share"), card: $("share-card"), link: $("share-link"), copy: $("share-copy"), text: $("share-text") });
const help = new Help({ dialog: $("help"), open: $("help-open"), close: $("help-close") });
const futures = new Futures({
  root: $("panes"),
  first: $("pane"),
  mode: new URLSearchParams(window.location.search).get("render") ?? "auto",
  doings: (pane) => (futures.two ? { close: () => dismiss(pane) } : { main: () => go(new Session()), create }),
  prepare: listen,
});
const ask = new Ask({
  form: $("ask"), input: $("prompt"), modes: $("ask").querySelectorAll("[data-how]"), when: $("when"),
  leave: () => futures.active.part("frame").focus(),
  submit: (control, text) => futures.active.prompt(control, text),
  mix: (shares) => line.mixing(shares),
});
const words = new Words({ row: $("chips"), card: $("words"), choose: (text, how) => futures.active.prompt(ask.control({ text }, { how: how ?? undefined }), text) });

let forking = false; // asked for, not there yet

// ---- sessions ----

/** The chosen pane shows this session from now on. */
function go(session) {
  const { active, panes } = futures;
  if (active === panes[1]) forget(active.session);
  active.go(session);
  window.history.pushState(null, "", address());
  describe();
}

/** As the page's address says. */
function arrive() {
  const [first, second] = futures.panes;
  const beside = Session.besideFrom(window.location);
  if (second && !beside) futures.close(second);
  if (first.session?.id !== Session.fromLocation(window.location).id) first.go(Session.fromLocation(window.location));
  if (beside && futures.panes[1]?.session.id !== beside.id) (futures.panes[1] ?? futures.open()).go(beside);
  describe();
}

function address() {
  const [first, second] = futures.panes;
  return first.session.address(second?.session);
}

/** All that the page says of the session that is steered. */
function describe() {
  const { active, two, panes } = futures;
  const { session } = active;
  if (!session) return;
  const number = panes.indexOf(active) + 1;
  body.classList.toggle("watch-only", session.watch);
  for (const control of document.querySelectorAll("#dock :is(input, button), .strip button")) control.disabled = session.watch;
  $("fork").disabled ||= two || forking;
  $("session-label").textContent = two ? `future ${number}` : session.shared ? "shared session" : "private session";
  $("prompt").placeholder = two ? `Say what should happen in future ${number}…` : "Say what should happen…";
  $("new-private").hidden = two;
  $("end-private").hidden = two || session.shared || session.watch || !session.token;
  share.offer(session.link({ watch: true }));
  panel.watch(active);
  line.recall([...active.ledger.entries.values()].filter(worthShowing).at(-1) ?? null, session.watch ? WATCHING : hint);
  follow(active.info);
  status();
}

function follow(info) {
  $("caption").textContent = info?.prompt ?? "";
  if (info) words.follow(info.prompt);
}

function status() {
  const { active } = futures;
  const { text, worry } = active.status();
  body.dataset.phase = active.phase;
  body.classList.toggle("paused", active.paused);
  body.classList.toggle("stalled", worry);
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
}

/** A session from `make`, once the server has a place for it; null where it has none and we were told to stop. */
async function opened(make) {
  try {
    return await patiently(make, (why, atMs) => toast.wait(why, atMs));
  } catch (error) {
    toast.say(error.status === 0 ? "The server cannot be reached, so no session could be made." : error.message);
    return null;
  }
}

async function create() {
  const session = await opened(() => Session.create(say(surprise())));
  if (session) go(session);
}

async function fork() {
  const { active, two } = futures;
  if (two || forking || active.session.watch) return;
  forking = true;
  describe();
  const session = await opened(() => active.session.fork());
  forking = false;
  if (session && !futures.two) {
    futures.open().go(session);
    window.history.pushState(null, "", address());
    $("prompt").focus({ preventScroll: true });
  }
  describe();
}

/** Keep the other future. What was forked from goes on, whoever watches. */
function dismiss(pane) {
  if (pane === futures.panes[1]) forget(pane.session);
  futures.close(pane);
  window.history.pushState(null, "", address());
  describe();
}

/** A fork that is shown no more makes room on the server. */
function forget(session) {
  if (session.token) session.remove().catch(() => {}); // it may be over by now
}

async function end() {
  const { session } = futures.active;
  go(new Session());
  await session.remove().catch((error) => toast.say(error.message));
}

async function save() {
  const { session, info } = futures.active;
  try {
    download(await session.snapshot(), `psistream-${session.id}-${info?.segment ?? 0}.safetensors`);
  } catch (error) {
    toast.say(error.message);
  }
}

async function take(file) {
  if (!isMoment(file)) return futures.active.sendImage(file);
  const session = await opened(() => Session.restore(file));
  if (session) go(session);
}

// ---- what comes in ----

const worthShowing = (entry) => entry.kind !== "action" || entry.status === "rejected";

function listen(pane) {
  const on = (name, handler) => pane.addEventListener(name, ({ detail }) => handler(detail));
  const chosen = () => pane === futures.active;
  on("phase", () => chosen() && status());
  on("info", (info) => chosen() && (follow(info), status()));
  on("receipt", (entry) => chosen() && worthShowing(entry) && line.show(entry));
  on("note", (text) => toast.say(text));
  on("forbidden", () => {
    pane.session.watch = true;
    pane.walker.enabled = false;
    describe();
  });
  on("walk", (action) => {
    body.classList.add("has-walked");
    for (const key of document.querySelectorAll(".pad [data-action]")) key.classList.toggle("down", key.dataset.action === action);
    for (const key of pane.root.querySelectorAll("[data-action]")) key.classList.toggle("down", key.dataset.action === action);
  });
  pane.part("image").addEventListener("click", () => $("file").click());
  pane.part("fullscreen").addEventListener("click", fullscreen);
  pane.part("close").addEventListener("click", () => dismiss(pane));
}

futures.addEventListener("choose", describe);
setInterval(() => document.hidden || status(), 500);

// ---- what people do ----

function fullscreen() {
  (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.())?.catch(() => {});
}

attachKeys(() => futures.active.walker);
attachPads(document.querySelector(".pad"), () => futures.active.walker);
accept({ inputs: [$("file"), $("moment-file")], veil: $("drop"), enabled: () => !futures.active.session.watch, take });
for (const button of document.querySelectorAll("[data-back]")) button.addEventListener("click", () => futures.active.rewind(Number(button.dataset.back)));
$("fork").addEventListener("click", fork);
$("save").addEventListener("click", save);
$("load").addEventListener("click", () => $("moment-file").click());
$("new-private").addEventListener("click", create);
$("end-private").addEventListener("click", end);

const KEYS = {
  "/": () => $("prompt").focus(),
  "?": () => help.show(),
  "[": () => futures.active.rewind(REWIND_S),
  1: () => futures.panes[0].part("frame").focus(), // to focus is to choose
  2: () => futures.panes[1]?.part("frame").focus(),
  f: fullscreen,
  i: () => panel.flip(),
  p: () => futures.active.togglePause(),
  t: fork,
};
KEYS.Enter = KEYS["/"];
KEYS.Backspace = KEYS["["];

window.addEventListener("keydown", (event) => {
  for (const pane of futures.panes) pane.screen.resume();
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing(event.target) || help.open) return;
  const onButton = event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement;
  if (!Object.hasOwn(KEYS, event.key) || (event.key === "Enter" && onButton)) return;
  event.preventDefault();
  KEYS[event.key]();
});
window.addEventListener("pointerdown", () => futures.panes.forEach((pane) => pane.screen.resume()));
window.addEventListener("popstate", arrive);
window.addEventListener("pagehide", () => futures.panes.forEach((pane) => pane.leave()));
window.addEventListener("pageshow", ({ persisted }) => persisted && futures.panes.forEach((pane) => pane.connection.retry()));
window.addEventListener("online", () => futures.panes.forEach((pane) => pane.phase !== "live" && !FINAL.has(pane.phase) && pane.connection.retry()));

/** For tests and the curious: read-only, of the session that is steered. */
Object.defineProperty(window, "psistream", {
  value: Object.freeze({
    get framesShown() { return futures.active.screen.framesShown; },
    get lastReceipt() { const entry = futures.active.ledger.last("prompt"); return entry && { ...entry }; },
    get state() { return futures.active.phase; },
    get states() { return futures.panes.map((pane) => pane.phase); },
    get steered() { return futures.panes.indexOf(futures.active) + 1; },
    get pace() { return futures.active.pace.state; },
  }),
});

arrive();
