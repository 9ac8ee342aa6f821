/** Wires the page together. Modules do not know each other; only this file connects them. */

import { sceneLine } from "./session/scene_line.js";
import { PromptBox } from "./steering/prompt_box.js";
import { FINAL } from "./media/connection.js";
import { accept, download, isMoment } from "./session/files.js";
import { Panes } from "./session/panes.js";
import { Help } from "./ui/help.js";
import { attachKeys, attachPads, showActions, typing, USUAL_ACTIONS } from "./steering/keys.js";
import { patiently } from "./session/admission.js";
import { Panel } from "./figures/panel.js";
import { ReceiptLine } from "./steering/receipt_line.js";
import { Session } from "./session/session.js";
import { Share } from "./session/share.js";
import { HINT, TOUCH_HINT, WATCHING } from "./ui/states.js";
import { Toast } from "./ui/toast.js";
import { say, surprise } from "./steering/vocabulary.js";
import { WordChips } from "./steering/word_chips.js";
import { shortcut } from "./steering/shortcuts.js";

const $ = (id) => document.getElementById(id);
const { body } = document;
const pad = document.querySelector(".pad");
const REWIND_S = 5; // per key press
const hint = window.matchMedia("(hover: none)").matches ? TOUCH_HINT : HINT;

const toast = new Toast({ box: $("toast"), text: $("toast-text"), left: $("toast-left"), stop: $("toast-stop") });
const line = new ReceiptLine($("receipt"), $("spoken"), hint);
const panel = new Panel({ root: $("panel"), toggle: $("panel-toggle") });
const share = new Share({ button: $("share"), card: $("share-card"), link: $("share-link"), copy: $("share-copy"), text: $("share-text"), kind: $("share-kind") });
const help = new Help({ dialog: $("help"), open: $("help-open"), close: $("help-close") });
const panes = new Panes({
  root: $("panes"),
  first: $("pane"),
  mode: new URLSearchParams(window.location.search).get("render") ?? "auto",
  buttons: (pane) => (panes.two ? { close: () => dismiss(pane) } : { main: () => go(new Session()), create }),
  prepare: listen,
});
const promptBox = new PromptBox({
  form: $("ask"), input: $("prompt"), modes: $("ask").querySelectorAll("[data-how]"), when: $("when"),
  leave: () => panes.active.part("frame").focus(),
  submit: (control, text) => panes.active.prompt(control, text),
  mix: (shares) => line.mixing(shares),
});
const words = new WordChips({ row: $("chips"), card: $("words"), choose: (text, how) => panes.active.prompt(promptBox.control({ text }, { how: how ?? undefined }), text) });

let forking = false; // a fork was requested and is not open yet

// ---- sessions ----

/** Show this session in the active pane. */
function go(session) {
  const { active, all } = panes;
  if (active === all[1]) forget(active.session);
  active.go(session);
  window.history.pushState(null, "", address());
  describe();
}

/** Show the sessions in the page's address. */
function arrive() {
  const [first, second] = panes.all;
  const beside = Session.besideFrom(window.location);
  if (second && !beside) panes.close(second);
  if (first.session?.id !== Session.fromLocation(window.location).id) first.go(Session.fromLocation(window.location));
  if (beside && panes.all[1]?.session.id !== beside.id) (panes.all[1] ?? panes.open()).go(beside);
  describe();
}

function address() {
  const [first, second] = panes.all;
  return first.session.address(second?.session);
}

/** Update everything that describes the steered session. */
function describe() {
  const { active, two, all } = panes;
  const { session } = active;
  if (!session) return;
  const number = all.indexOf(active) + 1;
  body.classList.toggle("watch-only", session.watch);
  for (const control of document.querySelectorAll("#dock :is(input, button), .strip button")) control.disabled = session.watch;
  $("fork").disabled ||= two || forking;
  $("session-label").textContent = two ? `future ${number}` : session.shared ? "shared session" : "private session";
  $("prompt").placeholder = two ? `Say what should happen in future ${number}…` : "Say what should happen…";
  $("new-private").hidden = two;
  $("end-private").hidden = two || session.shared || session.watch || !session.token;
  share.offer(session.link({ watch: true }), session);
  panel.watch(active);
  line.recall([...active.receipts.entries.values()].filter(worthShowing).at(-1) ?? null, session.watch ? WATCHING : hint);
  follow(active.info);
  status();
}

function follow(info) {
  $("caption").textContent = info?.prompt ?? "";
  $("scene").textContent = sceneLine(info ?? {});
  if (!info) return;
  words.follow(info.prompt);
  if (info.actions?.length) showActions(pad, info.actions, () => panes.active.walker);
}

function status() {
  const { active } = panes;
  const { text, worry } = active.status();
  body.dataset.phase = active.phase;
  body.classList.toggle("paused", active.paused);
  body.classList.toggle("stalled", worry);
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
}

/** Open a session with `make`, waiting until the server has capacity; null if the user stops waiting. */
async function opened(make) {
  try {
    return await patiently(make, (why, atMs) => toast.wait(why, atMs));
  } catch (error) {
    toast.say(error.status === 0 ? "The server cannot be reached, so no session was opened." : error.message);
    return null;
  }
}

async function create() {
  const session = await opened(() => Session.create(say(surprise())));
  if (session) go(session);
}

async function fork() {
  const { active, two } = panes;
  if (two || forking || active.session.watch) return;
  forking = true;
  describe();
  const session = await opened(() => active.session.fork());
  forking = false;
  if (session && !panes.two) {
    panes.open().go(session);
    window.history.pushState(null, "", address());
    $("prompt").focus({ preventScroll: true });
  }
  describe();
}

/** Close this pane and keep the other one. Closing the second pane ends its fork. */
function dismiss(pane) {
  if (pane === panes.all[1]) forget(pane.session);
  panes.close(pane);
  window.history.pushState(null, "", address());
  describe();
}

/** End a fork that is no longer shown, to free its capacity on the server. */
function forget(session) {
  if (session.token) session.remove().catch(() => {}); // it may have ended already
}

async function end() {
  const { session } = panes.active;
  go(new Session());
  await session.remove().catch((error) => toast.say(error.message));
}

async function save() {
  const { session, info } = panes.active;
  try {
    download(await session.snapshot(), `psistream-${session.id}-${info?.segment ?? 0}.safetensors`);
  } catch (error) {
    toast.say(error.message);
  }
}

async function take(file) {
  if (!isMoment(file)) return panes.active.sendImage(file);
  const session = await opened(() => Session.restore(file));
  if (session) go(session);
}

// ---- events from the panes ----

const worthShowing = (entry) => entry.kind !== "action" || entry.status === "rejected";

function listen(pane) {
  const on = (name, handler) => pane.addEventListener(name, ({ detail }) => handler(detail));
  const chosen = () => pane === panes.active;
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

panes.addEventListener("choose", describe);
setInterval(() => document.hidden || status(), 500);

// ---- user input ----

function fullscreen() {
  (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.())?.catch(() => {});
}

attachKeys(() => panes.active.walker, () => panes.active.info?.actions?.length ? panes.active.info.actions : USUAL_ACTIONS);
attachPads(pad, () => panes.active.walker);
accept({ inputs: [$("file"), $("moment-file")], veil: $("drop"), enabled: () => !panes.active.session.watch, take });
for (const button of document.querySelectorAll("[data-back]")) button.addEventListener("click", () => panes.active.rewind(Number(button.dataset.back)));
$("fork").addEventListener("click", fork);
$("save").addEventListener("click", save);
$("load").addEventListener("click", () => $("moment-file").click());
$("new-private").addEventListener("click", create);
$("end-private").addEventListener("click", end);

const KEYS = {
  "/": () => $("prompt").focus(),
  "?": () => help.show(),
  "[": () => panes.active.rewind(REWIND_S),
  1: () => panes.all[0].part("frame").focus(), // focus selects the pane
  2: () => panes.all[1]?.part("frame").focus(),
  f: fullscreen,
  i: () => panel.flip(),
  p: () => panes.active.togglePause(),
  t: fork,
};
KEYS.Enter = KEYS["/"];
KEYS.Backspace = KEYS["["];

window.addEventListener("keydown", (event) => {
  for (const pane of panes.all) pane.screen.resume();
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing(event.target) || help.open) return;
  const onButton = event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement;
  const key = shortcut(event, KEYS);
  if (key === null || (key === "Enter" && onButton)) return;
  event.preventDefault();
  KEYS[key]();
});
window.addEventListener("pointerdown", () => panes.all.forEach((pane) => pane.screen.resume()));
window.addEventListener("popstate", arrive);
window.addEventListener("pagehide", () => panes.all.forEach((pane) => pane.leave()));
window.addEventListener("pageshow", ({ persisted }) => persisted && panes.all.forEach((pane) => pane.connection.retry()));
window.addEventListener("online", () => panes.all.forEach((pane) => pane.phase !== "live" && !FINAL.has(pane.phase) && pane.connection.retry()));

/** Read-only view of the steered session, for tests and the console. */
Object.defineProperty(window, "psistream", {
  value: Object.freeze({
    get framesShown() { return panes.active.screen.framesShown; },
    get lastReceipt() { const entry = panes.active.receipts.last("prompt"); return entry && { ...entry }; },
    get state() { return panes.active.phase; },
    get states() { return panes.all.map((pane) => pane.phase); },
    get steered() { return panes.all.indexOf(panes.active) + 1; },
    get pace() { return panes.active.pace.state; },
  }),
});

arrive();
