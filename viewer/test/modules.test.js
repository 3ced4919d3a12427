// The page's modules that need no browser: node --test viewer/test/modules.test.js

import assert from "node:assert/strict";
import { test } from "node:test";
import { changed, serverOf, socketOf } from "../address.js";
import { keep, kept } from "../kept.js";
import { labelOf, layoutsOf, partOf, readyLayout } from "../layouts.js";
import { numbers, stateOf } from "../status.js";
import { choice } from "../switch.js";
import * as words from "../words.js";

const TABLE = {
  status: "ok",
  rows: 50_500,
  held: 20_000,
  rows_per_s: 999.6,
  age_ms: 118.6,
  missed_rows: 0,
  unshown_values: 0,
  history: null,
  error: null,
};
const STOCKS = { ...TABLE, dataset: "stocks", time: "timestamp", supertable: false };
const OWN = {
  ...TABLE,
  dataset: null,
  time: "when",
  supertable: true,
  columns: { when: "datetime", serial: "integer", note: "string", level: "float", tbname: "string" },
};
const HEALTH = { tables: { stock_values: STOCKS, "factory.Machine Log": OWN }, viewers: 1, busy: false };
const health = (more, both = {}) => ({ ...HEALTH, ...both, tables: { stock_values: { ...STOCKS, ...more } } });

test("the server is the one that the code came from, or the one that ?server= names", () => {
  const code = "http://localhost:8080/demo/";
  assert.equal(serverOf("http://localhost:8080/demo/", code).href, code);
  assert.equal(
    serverOf("file:///prsp-viewer.html?server=tdengine.example:81", code).href,
    "http://tdengine.example:81/",
  );
  assert.equal(serverOf("https://demo.example/?server=[::1]:81", code).href, "https://[::1]:81/");
  for (const bad of ["no host", "evil.example/path", "a:99999", "user:secret@a", "<b>", ""])
    assert.throws(() => serverOf(`http://localhost/?server=${encodeURIComponent(bad)}`, code), /is not an address/);
});

test("the WebSocket is beside the page, encrypted as the page is", () => {
  assert.equal(socketOf(new URL("http://localhost:8080/demo/")), "ws://localhost:8080/demo/websocket");
  assert.equal(socketOf(new URL("https://demo.example/")), "wss://demo.example/websocket");
});

test("an address changes by its parameters only", () => {
  assert.equal(changed("http://a/?table=x&layout=y", { table: "z&", layout: null }), "http://a/?table=z%26");
});

test("what is shown comes from the address, else from the server", () => {
  assert.deepEqual(choice("http://a/", HEALTH), { table: "stock_values", layout: "grid" });
  assert.deepEqual(choice("http://a/", HEALTH, "factory.Machine Log").layout, "newest");
  assert.deepEqual(choice("http://a/?layout=candlestick&only=YY.N", HEALTH).only, "YY.N");
  assert.equal(choice("http://a/?layout=candlestick", HEALTH).only, "AAPL.N");
  for (const name of ["no_such", "__proto__", "<img src=x>"])
    assert.match(
      choice(`http://a/?table=${encodeURIComponent(name)}`, HEALTH).problem[0],
      new RegExp(`no table ${name}`),
    );
  assert.match(choice("http://a/?layout=constructor", HEALTH).problem[0], /no layout constructor/);
  assert.match(choice("http://a/", { tables: {} }).problem[0], /no table yet/);
});

test("a table of the user's own opens at its newest rows, and offers what its columns allow", () => {
  const { newest, latest, time } = layoutsOf(OWN);
  assert.deepEqual(newest.sort, [["when", "desc"]]);
  assert.equal(newest.columns[0], "when");
  assert.deepEqual(latest.group_by, ["tbname"]);
  assert.deepEqual(latest.columns, ["level", "serial", "when", "note"]);
  assert.deepEqual(time.columns, ["level"]);
  assert.deepEqual(Object.keys(layoutsOf({ ...OWN, supertable: false })), ["newest", "time"]);
  assert.deepEqual(Object.keys(layoutsOf({ ...OWN, columns: { when: "datetime", a: "string" } })), ["newest"]);
  assert.deepEqual(Object.keys(layoutsOf({ ...TABLE, dataset: null })), ["newest"]);
  assert.equal(labelOf("factory.Machine Log", OWN), "factory.Machine Log");
  assert.equal(labelOf("x", { ...OWN, dataset: "__proto__" }), "x");
});

test("a grid of a wide table has as many columns as the server shows, and says that there are more", () => {
  const columns = { when: "datetime", tbname: "string" };
  for (let k = 1; k <= 2500; k++) columns[`c${k}`] = "integer";
  const wide = { ...OWN, columns };
  const { newest, latest, time } = layoutsOf(wide);
  assert.deepEqual([newest.columns.length, newest.columns[0], newest.columns.at(-1)], [2000, "when", "c1998"]);
  assert.deepEqual([latest.columns.length, latest.columns.at(-1)], [100, "when"]);
  assert.equal(Object.keys(latest.aggregates).length, 100);
  assert.match(partOf(newest, wide), /shows 2,000 of 2,502 columns/);
  assert.match(partOf(latest, wide), /shows 100 of 2,502 columns/);
  assert.equal(partOf(time, wide), "");
  for (const layout of [layoutsOf(OWN).newest, layoutsOf(OWN).latest]) assert.equal(partOf(layout, OWN), "");
  assert.equal(partOf(newest, {}), "");
  const long = { ...OWN, columns: { when: "datetime" } };
  for (let k = 0; k < 1999; k++) long.columns[`${"ö".repeat(30)}${k}`] = "integer";
  const { columns: first } = layoutsOf(long).newest;
  const bytes = first.reduce((sum, name) => sum + 2 * new TextEncoder().encode(name).length + 20, 0);
  assert.ok(bytes <= 240 * 1024 && bytes > 239 * 1024, `${bytes}`);
  assert.match(partOf({ plugin: "Datagrid", columns: first }, long), /of 2,000 columns/);
});

test("a layout resets all that it does not name, and is closed on a phone", async () => {
  const layout = await readyLayout(STOCKS, { table: "stock_values", layout: "candlestick", only: "YY.N" }, true);
  assert.deepEqual(layout.filter, [["ticker", "==", "YY.N"]]);
  assert.deepEqual([layout.sort, layout.split_by, layout.settings], [[], [], false]);
  assert.equal("only" in layout || "label" in layout, false);
  const grid = await readyLayout(STOCKS, { table: "stock_values", layout: "grid" }, false);
  assert.equal(grid.plugin_config.edit_mode, "READ_ONLY");
  assert.equal(
    Object.values(grid.aggregates).every((each) => ["last", "sum"].includes(each)),
    true,
  );
});

test("the status line tells rows that are held from rows since the start", () => {
  assert.equal(
    numbers(HEALTH, "stock_values"),
    "1,000 rows/s · 20,000 of 50,500 rows · last row 119 ms ago · 1 viewer",
  );
  const few = health({ rows: 1, held: 1, rows_per_s: 0, age_ms: 70_000 }, { viewers: 2 });
  assert.equal(numbers(few, "stock_values"), "0 rows/s · 1 row · last row 70 s ago · 2 viewers");
});

test("what is wrong is said in words, when something is", () => {
  const state = (more, both, drawn = true) => stateOf(health(more, both), "stock_values", drawn);
  assert.deepEqual(state({}), ["live", ""]);
  assert.deepEqual(state({}, {}, false), ["loading", ""]);
  assert.deepEqual(state({ status: "waiting" }), ["waiting", "Waiting for the first rows."]);
  assert.deepEqual(state({ status: "stale", error: "TDengine is away" }), ["stale", "TDengine is away"]);
  assert.match(state({ status: "stale" })[1], /is producer\.py running/);
  assert.match(state({ status: "stale", dataset: null })[1], /is what writes them running/);
  assert.equal(state({ status: "incomplete", missed_rows: 1 })[0], "incomplete");
  assert.match(state({ missed_rows: 1200 })[1], /^1,200 rows could not be shown/);
  assert.match(state({ unshown_values: 1 })[1], /^1 value could not be shown/);
  assert.match(state({ history: { loaded: 40_000, of: 200_000 } })[1], /40,000 of 200,000 rows/);
  assert.match(state({}, { busy: true })[1], /at its limit/);
});

test("messages name what to do for how the page was opened", () => {
  const server = new URL("http://localhost:8080/");
  const message = (href) => words.noAnswer(server, new URL(href));
  assert.match(message("file:///prsp-viewer.html"), /add \?server=HOST:PORT/);
  assert.match(message("http://localhost:8080/?server=a"), /check \?server=/);
  assert.equal(words.refused(new Error("Abort(): too much")), "This was refused, and undone: too much");
});

test("layouts are kept for each view, in memory where there is no localStorage", () => {
  const view = { table: "stock_values", layout: "candlestick", only: "YY.N" };
  keep(view, { plugin: "Datagrid" });
  assert.deepEqual(kept(view), { plugin: "Datagrid" });
  assert.equal(kept({ ...view, only: "FB.N" }), null);
  keep(view, null);
  assert.equal(kept(view), null);
});

test("what can't be a layout counts as none", () => {
  for (const text of ["nonsense", "5", "null"]) {
    globalThis.localStorage = { getItem: () => text };
    assert.equal(kept({ table: text, layout: "grid" }), null);
  }
  delete globalThis.localStorage;
});
