// The page: looks at /healthz, connects and reconnects, draws what is chosen, keeps what the user arranged.

import { serverOf, socketOf } from "./address.js";
import { lostOf, within } from "./connection.js";
import { dropOld, keep, kept } from "./kept.js";
import { partOf, readyLayout } from "./layouts.js";
import { numbers, show as say, showNumbers, stateOf } from "./status.js";
import { choice, makeSwitch } from "./switch.js";
import * as words from "./words.js";

const HEALTH_MS = 1000; // between looks at /healthz
const ANSWER_MS = 5000; // the longest wait for the server's answer
const RETRY_MS = [250, 2000]; // before connecting again: at first, and at most
const DRAW_MS = 60_000;
const REMARK_MS = 10_000; // how long it is shown
const REFUSED = 1008; // the code of a connection that the server closed for a request
const AGAIN_MS = 10_000; // an error so soon after another one has the same reason
const PHONE = matchMedia("(max-width: 700px)"); // where the settings panel would cover the data

// The viewer's own Reset would undo the layout itself; a layout that is kept has one panel.
const OURS = new CSSStyleSheet();
OURS.replaceSync("#reset, #panel-bar { display: none !important; }");

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** The error that a viewer stopped at; "" while it works. */
function errorOf(viewer) {
  if (!viewer.shadowRoot.querySelector("#status_reconnect.errored")) return "";
  return viewer.shadowRoot.querySelector(".error-dialog-message")?.textContent || "the viewer stopped";
}

/** Takes an element away, and its views from the server. */
function discard(viewer) {
  viewer.remove();
  viewer.delete().catch(() => {}); // with its connection
}

/**
 * Runs for as long as the page is open. `code` is the server that this module came from;
 * `connect(viewer, url)` gives a Client, `show(viewer, client, table, layout)` draws.
 */
export async function start(code, connect, show) {
  let health = null; // what /healthz said last, null when it did not answer
  let viewer; // the element that is seen: each connection has its own, the last one stays until the next one is drawn
  let shown; // the table that it showed last
  let settled = null; // the view that it shows, and that the user may be arranging now
  let asRestored; // its layout, as text, when we had made it
  let trouble = null; // why nothing new is shown: [state, text]
  let remark = ""; // what the server refused, for a while
  let lack = ""; // why a chart stays empty, or a grid has not all columns
  let wake = () => {}; // lets the connection look again at what is chosen
  const woken = () =>
    Promise.race([
      new Promise((done) => {
        wake = done;
      }),
      sleep(HEALTH_MS),
    ]);

  let server;
  try {
    server = serverOf(location.href, code);
  } catch (error) {
    return say("error", error.message, [["Without it", { server: null }]]);
  }

  const chosen = () => choice(location.href, health, shown);
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

  function tell() {
    showNumbers("");
    if (!health) return say("away", words.noAnswer(server, location));
    const view = chosen();
    if (view.problem) return say("error", ...view.problem);
    showNumbers(numbers(health, view.table));
    document.getElementById("reset").hidden = !kept(view);
    const [state, text] = stateOf(health, view.table, same(settled, view));
    if (trouble && state !== "waiting") return say(...trouble);
    return say(state, remark || [text, lack].filter(Boolean).join(" "));
  }

  const lackOf = (config, { table }) => words.lackOf(config) || partOf(config, health?.tables[table] ?? {});

  function remarkOn(text) {
    remark = text;
    tell();
    setTimeout(() => {
      if (remark === text) remark = "";
      tell();
    }, REMARK_MS);
  }

  const drawSwitch = makeSwitch((isBack) => {
    if (isBack) shown = undefined;
    if (health) drawSwitch(health, chosen());
    tell();
    wake();
  });

  async function watchHealth() {
    for (let pause = RETRY_MS[0]; ; ) {
      const before = health;
      try {
        const signal = AbortSignal.timeout(ANSWER_MS);
        const answer = await fetch(new URL("healthz", server), { signal, cache: "no-store" });
        health = await answer.json();
        if (!health.tables) health = null; // something else answers there
      } catch {
        health = null;
      }
      pause = health ? RETRY_MS[0] : Math.min(pause * 2, RETRY_MS[1]);
      if (health) drawSwitch(health, chosen());
      if (health && !before) wake();
      tell();
      await sleep(health && !health.tables[chosen().table]?.rows ? RETRY_MS[0] : health ? HEALTH_MS : pause);
    }
  }

  /** Keeps what the user has changed. */
  async function notice() {
    const view = settled;
    if (!view) return;
    const config = await viewer.save();
    if (!same(settled, view) || JSON.stringify(config) === asRestored) return;
    lack = lackOf(config, view);
    keep(view, config);
    tell();
  }

  function makeViewer() {
    const made = document.createElement("perspective-viewer");
    made.addEventListener("perspective-config-update", notice);
    made.addEventListener("perspective-toggle-settings", notice);
    document.querySelector("main").prepend(made);
    made.shadowRoot.adoptedStyleSheets.push(OURS);
    return made;
  }

  async function draw(made, client, view) {
    settled = null;
    const attempt = (layout) => within(show(made, client, view.table, layout), DRAW_MS, "The viewer does not draw");
    const ready = await readyLayout(health.tables[view.table], view, PHONE.matches, client);
    await attempt(kept(view) ?? ready);
    if (kept(view) && (await made.save()).plugin !== kept(view).plugin) {
      keep(view, null); // of a plugin that this version does not have
      await attempt(ready);
    }
    const config = await made.save();
    asRestored = JSON.stringify(config);
    lack = lackOf(config, view);
    if (viewer && viewer !== made) discard(viewer);
    viewer = made;
    viewer.style.visibility = "";
    shown = view.table;
    settled = view;
    trouble = null;
    tell();
  }

  /** One connection, until it is lost: then an Error with `code`. */
  async function run() {
    let made = makeViewer();
    let client;
    let failedAt = -Infinity;
    try {
      client = await connect(made, socketOf(server));
      const lost = lostOf(client);
      const unlessLost = (promise) => Promise.race([promise, lost]);
      for (;;) {
        const view = health && chosen();
        try {
          if (errorOf(made)) throw new Error(errorOf(made));
          if (view && !view.problem && !same(settled, view)) {
            if (shown !== view.table && viewer) viewer.style.visibility = "hidden";
            await unlessLost(draw(made, client, view));
          } else await unlessLost(woken());
        } catch (error) {
          if (client.isLost) throw error;
          settled = null;
          // A viewer that met an error stays in it: another one takes its place, and what was kept is tried once more.
          const again = performance.now() - failedAt < AGAIN_MS;
          failedAt = performance.now();
          if (!again) remarkOn(words.refused(error));
          else if (kept(view)) keep(view, null);
          else trouble = ["error", words.refused(error)];
          tell();
          if (viewer !== made) discard(made);
          made = makeViewer();
          await unlessLost(made.load(client));
          await unlessLost(sleep(RETRY_MS[trouble ? 1 : 0]));
        }
      }
    } catch (error) {
      throw Object.assign(error instanceof Error ? error : new Error(String(error)), { wasOpen: Boolean(client) });
    } finally {
      if (viewer !== made) discard(made);
      client?.terminate();
    }
  }

  document.getElementById("settings").onclick = () => viewer?.toggleConfig();
  document.getElementById("reset").onclick = () => {
    keep(chosen(), null);
    settled = null;
    wake();
  };
  addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    if (!words.isLost(event.reason)) remarkOn(words.refused(event.reason));
  });
  dropOld();
  watchHealth();
  for (let pause = RETRY_MS[0], failures = 0; ; pause = Math.min(pause * 2, RETRY_MS[1])) {
    while (!health || chosen().problem || health.tables[chosen().table].status === "waiting") await woken();
    try {
      await run();
    } catch (error) {
      if (error.code === REFUSED) remarkOn(words.closed(error));
      if (error.wasOpen) [pause, failures] = [RETRY_MS[0], 0];
      else failures += 1;
      // at first it may just be starting
      if (error.wasOpen || failures > 2) trouble = ["away", await words.lost(error, server)];
    }
    settled = null;
    tell();
    await sleep(pause);
  }
}
