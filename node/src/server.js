#!/usr/bin/env node
/**
 * Polls TDengine for the last second of rows and serves them as live Perspective tables at /websocket.
 *
 *     node src/server.js [--dataset stocks|meters|all] [--table DB.TABLE] [--dsn DSN] [--interval MS] [--port P]
 *
 * Rows that were shown already are left out; the rest goes into Perspective tables with a limit, which browsers read
 * and subscribe to. They may look, not touch.
 */

import "./lib/signals.js"; // from the first moment
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { needs } from "./lib/needs.js";
import { exit, serverOptions } from "./lib/options.js";
import { isDue, untilInStep } from "./lib/polls.js";

const parts = await needs(() => import("./lib/parts.js"));
const { Feed, listen, log, makeHttpServer, setLevel, supervise, Table, Viewers } = parts;

// The demo's tables: database, table, and the name of the Perspective table. Columns and types are read from TDengine.
const DATASETS = {
  stocks: { database: "stocks", name: "stocks_values", title: "stock_values", dates: ["date"] },
  meters: { database: "power", name: "meters", title: "meters_values" },
};

/** The newest rows of a table that match, newest first, by TDengine's REST interface; fails after 6 s at the latest. */
function readTDengine(table, where, limit) {
  return table.rows(
    `SELECT ${table.select} FROM ${table.name} WHERE ${where} ORDER BY ${table.time} DESC LIMIT ${limit}`,
  );
}

/** A feed of one Perspective table with the rows that it does not hold yet; drop() deletes the table. */
function makeFeed(engine, viewers, table, args, place) {
  let hosted = null;

  /** Hosted together with its first rows, as Arrow: an empty table with grouped views freezes the engine. */
  async function show(rows) {
    if (hosted) await hosted.update(rows);
    else hosted = await engine.table(rows, { name: table.title, limit: args.limit });
  }

  /** Its columns have changed; the next rows make it anew. */
  async function drop() {
    viewers.dropTable(table.title);
    await hosted?.delete();
    hosted = null;
  }

  // after the engine was replaced: what was shown since the start
  const isResumed = Object.values(place.restarts).some((count) => count > 0);
  const historyS = args.history + (isResumed ? place.ageS : 0);
  const feed = new Feed({ source: table, read: readTDengine, show, limit: args.limit, historyS, isResumed });
  return Object.assign(feed, { drop });
}

/** Polls at each full interval of the clock, plus a little: a producer's batch has just come. One poll at a time. */
async function poll(feed, viewers, intervalMs, signal) {
  while (!signal.aborted) {
    await sleep(untilInStep(intervalMs), undefined, { signal });
    if (isDue(feed, viewers, intervalMs)) {
      await feed.refresh(feed.drop);
      await feed.tick();
    }
  }
}

/** Once a second: rows that came late, or from other clocks. */
async function compare(feed, signal) {
  while (!signal.aborted) {
    await sleep(1000, undefined, { signal });
    await feed.compare();
  }
}

async function main() {
  const args = serverOptions("Polls TDengine and serves its rows as live Perspective tables.", DATASETS);
  setLevel(args["log-level"]);
  const viewers = new Viewers({
    maxViewers: args["max-viewers"],
    host: args.host,
    allowOrigins: args["allow-origin"],
    allowHosts: args["allow-host"],
    fileOrigin: !args["no-file-origin"],
  });
  const feeds = [];
  let http = null;

  /** With a new engine: feeds and viewers of its own, at the same port. Returns what stops them. */
  function serve(engine, place, fail) {
    const ended = new AbortController();
    setMaxListeners(0, ended.signal); // two loops a table listen to it
    viewers.use(engine, place.banned);
    feeds.length = 0;
    for (const each of args.tables) feeds.push(makeFeed(engine, viewers, new Table(args.dsn, each), args, place));
    engine.ready.then(() => {
      http ??= start(place, fail);
    });
    for (const loop of feeds.flatMap((feed) => [
      poll(feed, viewers, args.interval, ended.signal),
      compare(feed, ended.signal),
    ])) {
      loop.catch((error) => ended.signal.aborted || fail(error));
    }
    return () => ended.abort();
  }

  /** The page, its modules, /healthz, /metrics; and Perspective's WebSocket. */
  function start(place, fail) {
    const server = makeHttpServer({ tables: feeds, viewers, place, prefix: args.prefix }, args.tls);
    viewers.listenTo(server, `${args.prefix}/websocket`);
    const host = args.host.includes(":") ? `[${args.host}]` : args.host;
    listen(server, args.port, args.host).then(
      (port) => {
        log.info(`page at ${args.tls ? "https" : "http"}://${host}:${port}${args.prefix}/, reading ${args.dsn.shown}`);
      },
      (error) =>
        fail(new Error(`can't listen on ${args.host}:${args.port} (${error.code}): choose another --host or --port`)),
    );
    return server;
  }

  const status = await supervise(serve, { maxMemoryMb: args["max-memory"] });
  http?.close();
  viewers.close();
  await sleep(100); // for the close frames
  process.exit(status); // whatever is still on its way
}

main().catch((error) => exit(1, error.message));
