#!/usr/bin/env node
/**
 * Polls TDengine for the last second of rows and serves them as live Perspective tables.
 *
 *     node server.js [--dataset meters|stocks|all] [--dsn DSN] [--interval MS] [--limit N] [--port P]
 *
 * Rows that were shown already are left out; the rest goes into a Perspective table with a limit, which browsers read
 * and subscribe to at /websocket. They may look, not touch. Every wait for TDengine has a time limit, and one poll
 * ends before the next one starts.
 */

import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import url from "node:url";
import util from "node:util";

const OLDEST_NODE = 20;
const DEFAULT_DSN = "ws://root:taosdata@localhost:6041";
const ROOT = path.dirname(path.dirname(url.fileURLToPath(import.meta.url))); // where the page and its packages are
const CDN = "https://cdn.jsdelivr.net/npm/";
const FILTER_HANDLER = "this.parentNode.dataset.value=this.value"; // in @perspective-dev/viewer

// Per dataset: database, table, its time column, what else tells rows of equal time apart, the Perspective table's
// name, and its columns with their types. INT UNSIGNED does not fit Perspective's 32-bit integer, float holds it.
export const DATASETS = {
  stocks: {
    database: "stocks",
    table: "stocks_values",
    time: "timestamp",
    subtable: null,
    name: "stock_values",
    columns: {
      timestamp: "datetime",
      ticker: "string",
      client: "string",
      open: "float",
      high: "float",
      low: "float",
      close: "float",
      volume: "float",
      date: "datetime",
    },
  },
  meters: {
    database: "power",
    table: "meters",
    time: "ts",
    subtable: "tbname",
    name: "meters_values",
    columns: {
      ts: "datetime",
      current: "float",
      voltage: "integer",
      phase: "float",
      groupid: "integer",
      location: "string",
      tbname: "string",
    },
  },
};

const WINDOW_MS = 1000; // each poll asks for the last second, or back to the last poll that succeeded
const CHECK_MS = 1000; // how often rows are looked for that were stored more than WINDOW_MS after their timestamp
const REMEMBERED_ROWS = 300_000; // bounds of what is remembered of the rows that were shown
const REMEMBERED_S = 10_000;
const LAG_MS = 60; // between a full interval and our poll
const RETRY_MS = 500; // after a poll that failed
const STALE_MS = 5000; // without a new row
const ANSWER_LIMIT_MS = 6000; // an answer of TDengine that takes longer does not come any more
const UNITS_PER_S = { ms: 10n ** 3n, us: 10n ** 6n, ns: 10n ** 9n };

// What a viewer may ask, by the field number of Request in perspective.proto: see and subscribe. The viewer also asks
// for a port (5) to send edits through, by itself; it gets the number of one that isn't made.
export const ALLOWED = {
  3: "get_features",
  4: "get_hosted_tables",
  5: "table_make_port",
  6: "table_make_view",
  7: "table_schema",
  8: "table_size",
  9: "table_validate_expr",
  10: "view_column_paths",
  11: "view_delete",
  12: "view_dimensions",
  13: "view_expression_schema",
  14: "view_get_config",
  15: "view_schema",
  16: "view_to_arrow",
  17: "server_system_info",
  18: "view_collapse",
  19: "view_expand",
  20: "view_get_min_max",
  21: "view_on_update",
  22: "view_remove_on_update",
  23: "view_set_depth",
  24: "view_to_columns_string",
  25: "view_to_csv",
  26: "view_to_rows_string",
  29: "table_on_delete",
  30: "table_remove_delete",
  34: "view_on_delete",
  35: "view_remove_delete",
  36: "view_to_ndjson_string",
  37: "remove_hosted_tables_update",
};
export const DENIED = {
  27: "make_table",
  28: "table_delete",
  31: "table_remove",
  32: "table_replace",
  33: "table_update",
};
const OF_A_VIEW = new Set([10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26, 34, 35, 36]);
const CHANGES_A_VIEW = new Set([18, 19, 23]);
const SUBSCRIBES = new Set([21, 29, 34]);
const MAX_MESSAGE = 256 * 1024; // bytes of one request
const MAX_VIEWS = 32; // per connection
const MAX_SUBSCRIPTIONS = 128; // per connection
const MAX_EXPRESSIONS = 8 * 1024; // bytes of all expressions in one request
// The engine's stack has 64 KB here, and what overflows it breaks the engine for everyone: it was seen to hold ten
// brackets within each other at worst, and 68 operators that work from the right to the left.
const MAX_BRACKETS = 6;
const MAX_FROM_THE_RIGHT = 12;
const MAX_LEVELS = 12; // of a view's groups: the engine works for all viewers in one thread
const MAX_BODY = 64 * 1024; // bytes of an HTTP request, none of which needs any
const MAX_UNSENT = 32 * 1024 * 1024; // bytes waiting for a viewer that reads too slowly
const CLOSE_MS = 2000; // for the viewer's side to close a connection that is being closed
const PING_MS = 20_000; // between pings, and the time to answer one

function log(level, text) {
  const when = new Date().toISOString().replace("T", " ").replace("Z", "");
  process.stderr.write(`${when} ${level} ${text}\n`);
}

// TDengine

/** What TDengine or the way to it answered, in one line; code: as "0x0357", or "" when it is not TDengine's. */
export class TDengineError extends Error {
  constructor(code, message) {
    super(code ? `[${code}] ${message}` : message);
    this.code = code;
  }
}

/**
 * The rows that TDengine answers, as arrays; timestamps are ISO 8601 texts. TDengineError when it fails.
 * tdengine: {url, authorization}. Bound: ANSWER_LIMIT_MS. Another client for TDengine would be called in here.
 */
export async function query(tdengine, sql) {
  let status, answer;
  try {
    const signal = AbortSignal.timeout(ANSWER_LIMIT_MS);
    const headers = { authorization: tdengine.authorization };
    const response = await fetch(tdengine.url, { method: "POST", headers, body: sql, redirect: "error", signal });
    status = response.status;
    answer = await response.json();
  } catch (error) {
    const why = error.name === "TimeoutError" ? `no answer within ${ANSWER_LIMIT_MS / 1000} s` : "";
    const not = status && error.name === "SyntaxError" ? `HTTP status ${status} and no JSON` : "";
    throw new TDengineError("", why || not || error.cause?.code || error.cause?.message || error.message);
  }
  if (answer?.code !== 0 || !Array.isArray(answer.data)) {
    const code = status === 401 ? 0x0357 : answer?.code;
    const text = String(answer?.desc ?? `HTTP status ${status}`).split("\n")[0];
    throw new TDengineError(code ? `0x${(code & 0xffff).toString(16).toUpperCase().padStart(4, "0")}` : "", text);
  }
  return answer.data;
}

/** A TIMESTAMP as TDengine tells it (ISO 8601), as BigInt in the database's precision. */
export function stampOf(text, unitsPerS) {
  const parts = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)$/.exec(text);
  if (!parts) {
    throw new TDengineError("", `no timestamp: ${text}`);
  }
  const nanoseconds = BigInt((parts[2] ?? "").padEnd(9, "0"));
  return BigInt(Date.parse(parts[1] + parts[3]) / 1000) * unitsPerS + nanoseconds / (10n ** 9n / unitsPerS);
}

// The feed: from one table of TDengine into one Perspective table, each row once

/** The keys of the rows that were shown, by second of their timestamp, so that the oldest can be forgotten. */
export class Shown {
  constructor() {
    this.seconds = new Map();
    this.total = 0;
  }

  has(second, key) {
    return this.seconds.get(second)?.has(key) ?? false;
  }

  add(second, key) {
    if (!this.seconds.has(second)) {
      this.seconds.set(second, new Set());
    }
    this.seconds.get(second).add(key);
    this.total += 1;
  }

  of(second) {
    return [...(this.seconds.get(second) ?? [])];
  }

  remove(second, key) {
    if (this.seconds.get(second)?.delete(key)) {
      this.total -= 1;
    }
  }

  counts(first) {
    return new Map(
      [...this.seconds].filter(([second, keys]) => second >= first && keys.size).map(([s, k]) => [s, k.size]),
    );
  }

  /** Keeps to the bounds; the second from which on all is still known, or null when nothing was forgotten. */
  forgetOldest(mostRows = REMEMBERED_ROWS) {
    let first = null;
    while ((this.total > mostRows && this.seconds.size > 1) || this.seconds.size > REMEMBERED_S) {
      const second = Math.min(...this.seconds.keys());
      this.total -= this.seconds.get(second).size;
      this.seconds.delete(second);
      first = second + 1;
    }
    return first;
  }
}

/** Polls one dataset's table and feeds its Perspective table; counts what /healthz tells. */
export class Feed {
  constructor(dataset, database, tdengine, engine, limit) {
    Object.assign(this, { database, tdengine, engine, limit });
    this.name = dataset.name;
    this.columns = dataset.columns;
    this.source = `${database}.${dataset.table}`;
    this.time = `\`${dataset.time}\``;
    this.subtable = dataset.subtable;
    this.shown = new Shown();
    this.table = this.unitsPerS = this.startMs = this.newestMs = this.lagMs = this.error = null;
    this.checkedFrom = 0; // from this second on, every row that is stored should have been shown
    this.succeededAt = performance.now(); // start of the last poll that succeeded; at first, of the server
    this.checkedAt = this.retryAt = this.rowAt = 0;
    this.rows = this.polls = this.failedPolls = this.fullPolls = this.reconnects = 0;
    this.arrivals = [[this.succeededAt, 0]]; // [when, rows in all] of the last seconds
  }

  /** One tick: reads, shows what is new. Never two at a time: whoever calls it waits for its end. */
  async poll() {
    const started = performance.now();
    if (started < this.retryAt) {
      return;
    }
    this.polls += 1;
    try {
      await this.read(started);
    } catch (error) {
      if (!(error instanceof TDengineError)) {
        throw error;
      }
      this.failedPolls += 1;
      this.retryAt = performance.now() + RETRY_MS;
      this.unitsPerS = null; // it may be another database, when it is back
      const reason = this.explain(error.code);
      if (reason !== this.error) {
        log("WARNING", `${this.source}: ${reason} (${error.message})`);
      }
      this.error = reason;
      return;
    }
    if (this.error !== null) {
      this.reconnects += this.error.startsWith("TDengine has no") ? 0 : 1; // what was missing is no lost connection
      log("INFO", `${this.source}: TDengine answers again`);
    }
    this.error = null;
    this.succeededAt = started;
  }

  /** What is wrong and what to do, in one line, for the log and the page. */
  explain(code) {
    switch (code) {
      case "0x0357":
      case "0x0351":
        return "TDengine refuses this user or password: check TDENGINE_DSN or --password-file";
      case "0x0388":
        return `TDengine has no database ${this.database}: start producer.js, which makes it`;
      case "0x2603":
        return `TDengine has no table ${this.source}: start producer.js, which makes it`;
      case "0x2602":
        return `table ${this.source} has not the columns of this dataset`;
      default:
        return "TDengine does not answer: is it running? Trying on";
    }
  }

  async read(started) {
    const passedMs = Math.floor(started - this.succeededAt);
    if (this.startMs === null) {
      // rows from before the server's start are not shown
      const [[nowMs]] = await query(this.tdengine, "SELECT CAST(NOW() AS BIGINT)");
      this.startMs = nowMs - Math.floor(performance.now() - this.succeededAt) - WINDOW_MS;
      this.checkedFrom = Math.floor(this.startMs / 1000) + 1;
    }
    let stored = null;
    let known = null;
    let countedFrom = null;
    if (started - this.checkedAt > CHECK_MS) {
      countedFrom = this.checkedFrom;
      known = this.countShown();
      stored = await this.countStored();
      this.checkedAt = started;
    }
    // after a pause the window reaches back to the last poll that succeeded
    const windowMs = passedMs < WINDOW_MS ? WINDOW_MS : passedMs + WINDOW_MS;
    await this.show(`${this.time} >= NOW() - ${windowMs}a`);
    // not when the oldest were forgotten meanwhile: then these counts can't be compared
    if (countedFrom === this.checkedFrom && (stored > this.countShown() || stored < known)) {
      await this.showLateRows();
    }
  }

  /**
   * Shows those of the newest rows that match which were not shown yet. Returns {stamps, keys} of all that match.
   * Asks for the keys first and then for whole rows: three of four rows in the window were shown before.
   */
  async show(where) {
    const byAge = `ORDER BY ${this.time} DESC LIMIT ${this.limit}`;
    const ofRow = this.subtable ? `${this.time}, ${this.subtable}` : this.time;
    const found = await query(this.tdengine, `SELECT ${ofRow} FROM ${this.source} WHERE ${where} ${byAge}`);
    await this.findPrecision();
    const stamps = found.map((row) => stampOf(row[0], this.unitsPerS));
    const keys = found.map((row, k) => this.keyOf(stamps[k], row.at(-1)));
    const first = (BigInt(this.startMs) * this.unitsPerS) / 1000n;
    const isNew = (stamp, key) => stamp >= first && !this.shown.has(this.secondOf(stamp), key);
    const fresh = stamps.filter((stamp, k) => isNew(stamp, keys[k]));
    if (keys.length === this.limit && fresh.at(-1) === stamps.at(-1) && fresh.length) {
      this.fullPolls += 1; // even the oldest one is new: older ones may have been left out
    }
    if (fresh.length) {
      const between = `${this.time} >= ${fresh.at(-1)} AND ${this.time} <= ${fresh[0]}`;
      const sql = `SELECT ${this.expressions()} FROM ${this.source} WHERE ${between} ${byAge}`;
      await this.put(await query(this.tdengine, sql), isNew);
    }
    return { stamps, keys };
  }

  async findPrecision() {
    if (this.unitsPerS === null) {
      const named = `WHERE name = '${this.database}'`;
      const sql = `SELECT \`precision\` FROM information_schema.ins_databases ${named}`;
      const [[precision] = []] = await query(this.tdengine, sql);
      if (!UNITS_PER_S[precision]) {
        throw new TDengineError("0x0388", "dropped while it was read");
      }
      this.unitsPerS = UNITS_PER_S[precision];
    }
  }

  /** What tells rows apart: timestamp and subtable, or just the timestamp in a plain table. */
  keyOf(stamp, subtable) {
    return this.subtable ? `${stamp} ${subtable}` : stamp;
  }

  secondOf(stamp) {
    return Number(stamp / this.unitsPerS);
  }

  expressions() {
    const quoted = (column) => (column === this.subtable ? column : `\`${column}\``);
    return Object.keys(this.columns).map(quoted).join(", ");
  }

  /** Puts the rows that were not shown yet into the Perspective table, oldest first; rows come newest first. */
  async put(rows, isNew) {
    const fresh = [];
    for (const row of rows.reverse()) {
      const stamp = stampOf(row[0], this.unitsPerS);
      const key = this.keyOf(stamp, row.at(-1));
      if (isNew(stamp, key)) {
        this.shown.add(this.secondOf(stamp), key);
        fresh.push(row);
      }
    }
    if (!fresh.length) {
      return;
    }
    await this.update(fresh);
    const now = performance.now();
    this.rows += fresh.length;
    this.rowAt = now;
    const newestMs = Date.parse(fresh.at(-1)[0]);
    this.newestMs = Math.max(newestMs, this.newestMs ?? 0);
    this.lagMs = Date.now() - newestMs;
    if (this.rows === fresh.length) {
      this.arrivals = []; // the pace is counted from the first rows on
    }
    this.arrivals.push([now, this.rows]);
    this.dropOldArrivals(now);
    const forgotten = this.shown.forgetOldest();
    if (forgotten !== null) {
      // what is older can't be told apart any more
      this.startMs = Math.max(this.startMs, forgotten * 1000);
      this.checkedFrom = Math.max(this.checkedFrom, forgotten);
    }
  }

  async update(rows) {
    const batch = {};
    for (const [k, [column, kind]] of Object.entries(this.columns).entries()) {
      // Perspective's datetimes are milliseconds
      const value = kind === "datetime" ? (row) => row[k] && Date.parse(row[k]) : (row) => row[k];
      batch[column] = rows.map(value);
    }
    if (this.table === null) {
      this.table = await this.engine.host(this.name, this.columns, batch, this.limit);
    } else {
      await this.table.update(batch);
    }
  }

  countShown() {
    let count = 0;
    for (const shown of this.shown.counts(this.checkedFrom).values()) {
      count += shown;
    }
    return count;
  }

  async countStored() {
    await this.findPrecision();
    const since = BigInt(this.checkedFrom) * this.unitsPerS;
    const sql = `SELECT COUNT(*) FROM ${this.source} WHERE ${this.time} >= ${since}`;
    const [[count]] = await query(this.tdengine, sql);
    return count;
  }

  /**
   * Rows came later than the window reaches (a producer sent what it had kept), or rows were dropped.
   * Compares each second's count with what was shown of it, and reads from the first that differs to the last.
   */
  async showLateRows() {
    const since = BigInt(this.checkedFrom) * this.unitsPerS;
    const sql = `SELECT _wstart, COUNT(*) FROM ${this.source} WHERE ${this.time} >= ${since} INTERVAL(1s)`;
    const found = await query(this.tdengine, sql);
    const stored = new Map(found.map(([start, count]) => [Math.floor(Date.parse(start) / 1000), count]));
    const shown = this.shown.counts(this.checkedFrom);
    const differ = [...stored.keys(), ...shown.keys()].filter((second) => stored.get(second) !== shown.get(second));
    if (!differ.length) {
      return;
    }
    const first = differ.reduce((a, b) => Math.min(a, b));
    const last = differ.reduce((a, b) => Math.max(a, b));
    const known = new Map(differ.map((second) => [second, this.shown.of(second)]));
    const [from, to] = [BigInt(first) * this.unitsPerS, BigInt(last + 1) * this.unitsPerS];
    const { stamps, keys } = await this.show(`${this.time} >= ${from} AND ${this.time} < ${to}`);
    if (keys.length === this.limit) {
      this.checkedFrom = this.secondOf(stamps.at(-1)) + 1; // what is older does not fit the limit
      return;
    }
    const there = new Set(keys);
    for (const [second, before] of known) {
      // as known before: what came while we read is not among the keys
      for (const key of before.filter((each) => !there.has(each))) {
        this.shown.remove(second, key); // rows that are gone don't count any more
      }
    }
  }

  status() {
    if (!this.rows || /^TDengine (refuses|has no)/.test(this.error ?? "")) {
      return "waiting";
    }
    return performance.now() - this.rowAt < STALE_MS ? "ok" : "stale";
  }

  dropOldArrivals(now) {
    while (this.arrivals.length > 1 && now - this.arrivals[1][0] > 5000) {
      this.arrivals.shift();
    }
  }

  /** This table's part of /healthz, see the README. */
  health() {
    const now = performance.now();
    this.dropOldArrivals(now);
    const [when, total] = this.arrivals[0];
    const last = this.arrivals.at(-1)[0];
    const passedMs = (now - last < 1000 ? last : now) - when; // up to the last arrival: between two there are no rows yet
    const pace = (this.rows - total) / Math.max(passedMs / 1000, 0.25);
    return {
      source: "poll",
      status: this.status(),
      rows: this.rows,
      rows_per_s: Math.round(pace * 10) / 10,
      newest: this.newestMs && new Date(this.newestMs).toISOString().replace("Z", "+00:00"),
      age_ms: this.newestMs && Date.now() - this.newestMs,
      lag_ms: this.lagMs,
      polls: this.polls,
      failed_polls: this.failedPolls,
      full_polls: this.fullPolls,
      reconnects: this.reconnects,
      error: this.error,
    };
  }
}

// The engine: Perspective, compiled to WebAssembly, in this thread

/** Perspective's engine. One call at a time: each may move the memory in which another's answers still lie. */
export class Engine {
  constructor(perspective) {
    this.perspective = perspective;
    this.last = Promise.resolve();
  }

  run(call) {
    const done = this.last.then(call);
    this.last = done.catch((error) => {
      if (error instanceof WebAssembly.RuntimeError) {
        log("ERROR", `the engine has broken (${error.message}), which can't be mended: ending`);
        process.exit(1);
      }
    });
    return done;
  }

  /** A client's connection to the engine; take(bytes) gets each answer, a copy. */
  async session(take, makeSession = this.perspective.make_session) {
    const session = await makeSession(async (answer) => take(answer.slice()));
    return {
      request: (message) => this.run(() => session.handle_request(message)),
      close: () => this.run(() => session.close()),
    };
  }

  async client(makeSession) {
    const session = await this.session((answer) => client.handle_response(answer), makeSession);
    const client = this.perspective.make_client((message) => session.request(message.slice()));
    return client;
  }

  /** A hosted table, made together with its first rows: an empty one with grouped views was seen to freeze. */
  async host(name, columns, batch, limit) {
    this.ours ??= await this.client();
    // Arrow carries the types, which a table made of plain columns would have to guess
    const scratch = new this.perspective.PerspectiveServer();
    const first = await (await this.client(async (take) => scratch.make_session(take))).table(columns);
    await first.update(batch);
    const arrow = await (await first.view({ columns: Object.keys(columns) })).to_arrow();
    const table = await this.ours.table(arrow, { name, limit });
    await this.run(() => scratch.delete());
    return table;
  }
}

// The viewers' side: what they may ask, and the pages

/** A protobuf varint of at most 64 bits: [value, position after it]; Error when there is none. */
function varint(message, at) {
  let value = 0;
  for (let k = 0; k < 10 && at + k < message.length; k++) {
    value += (message[at + k] & 127) * 2 ** (7 * k);
    if (message[at + k] < 128) {
      return [value, at + k + 1];
    }
  }
  throw new Error("half a message");
}

/** A protobuf message's fields as [number, number or Buffer]; Error for anything but varints and bytes. */
export function fields(message) {
  const found = [];
  let at = 0;
  while (at < message.length) {
    let tag, value;
    [tag, at] = varint(message, at);
    [value, at] = varint(message, at);
    // the engine would look at the lower 32 bits only
    if (tag < 8 || tag >= 2 ** 32 || (tag % 8 !== 0 && tag % 8 !== 2)) {
      throw new Error("not a request of Perspective's");
    }
    if (tag % 8 === 2) {
      if (at + value > message.length) {
        throw new Error("half a message");
      }
      [value, at] = [message.subarray(at, at + value), at + value];
    }
    found.push([Math.floor(tag / 8), value]);
  }
  return found;
}

/** A protobuf message of [number, number or text or Buffer]; a text stands for the bytes of its letters (latin1). */
export function encode(...parts) {
  const message = [];
  for (let [number, value] of parts) {
    if (typeof value === "string") {
      value = Buffer.from(value, "latin1");
    }
    const isNumber = typeof value === "number";
    for (let n of [number * 8 + (isNumber ? 0 : 2), isNumber ? value : value.length]) {
      const bytes = [];
      for (; n > 127; n = Math.floor(n / 128)) {
        bytes.push((n % 128) | 128);
      }
      message.push(Buffer.from([...bytes, n]));
    }
    if (!isNumber) {
      message.push(value);
    }
  }
  return Buffer.concat(message);
}

/** The value of a field; the last one counts, undefined when there is none. */
function field(message, wanted) {
  return fields(message).findLast(([number]) => number === wanted)?.[1];
}

/** The expressions in a request to make a view or to validate expressions, as texts (latin1). */
export function expressionsOf(kind, body) {
  const inside = (messages, wanted) =>
    messages.flatMap((message) => fields(message).filter(([number]) => number === wanted)).map(([, value]) => value);
  // TableMakeViewReq.config.expressions, or TableValidateExprReq.column_to_expr
  const entries = kind === 6 ? inside(inside([body], 2), 6) : inside([body], 1);
  return inside(entries, 2)
    .filter((expression) => typeof expression !== "number")
    .map((expression) => expression.toString("latin1"));
}

/**
 * Whether it could stop the engine for everyone.
 *
 * By a loop (ExprTK bounds none), by an array (of any size), or by text that is made longer again and again: twenty
 * times `s := concat(s, s)` take all memory. Here also by depth, which the engine's small stack does not hold.
 */
export function isHarmful(expression) {
  const words = expression.toLowerCase().match(/[a-z_]+/g) ?? [];
  const count = (...wanted) => words.filter((word) => wanted.includes(word)).length;
  const loops = count("while", "for", "repeat") > 0;
  const longer = count("concat", "replace", "replace_all");
  const isAssigned = expression.includes(":=") || count("var") > 0;
  const again = longer > 1 && (isAssigned || longer > count("concat"));
  return loops || again || (count("var") > 0 && expression.includes("[")) || isTooDeep(expression);
}

function isTooDeep(expression) {
  // texts and names without escapes are left out; where quotes, escapes or comments remain, no bracket counts as closed
  const bare = expression.replace(/'[^'"\\]*'|"[^'"\\]*"/g, " ");
  const isPlain = !/['"\\#]|\/\/|\/\*/.test(bare);
  let [depth, deepest] = [0, 0];
  for (const letter of isPlain ? bare : expression) {
    if ("([{".includes(letter)) {
      depth += 1;
      deepest = Math.max(deepest, depth);
    } else if (isPlain && ")]}".includes(letter)) {
      depth -= 1;
    }
  }
  const fromTheRight = (isPlain ? bare : expression).match(/[\^?]|:=|\b(in|else|case|not)\b/gi) ?? [];
  return deepest > MAX_BRACKETS || fromTheRight.length > MAX_FROM_THE_RIGHT;
}

/** {number, kind, entity, body} of a Request, entity as text (latin1); Error when it isn't exactly one request. */
export function parseRequest(message) {
  const found = fields(message);
  const head = new Map(found.filter(([number]) => number === 1 || number === 2));
  const kinds = found.filter(([number]) => number !== 1 && number !== 2);
  const [number, entity] = [head.get(1) ?? 0, head.get(2) ?? Buffer.alloc(0)];
  if (kinds.length !== 1 || found.length !== head.size + 1 || typeof kinds[0][1] === "number") {
    throw new Error("not a request of Perspective's");
  }
  if (typeof number !== "number" || number >= 2 ** 32 || typeof entity === "number") {
    throw new Error("not a request of Perspective's");
  }
  return { number, kind: kinds[0][0], entity: entity.toString("latin1"), body: kinds[0][1] };
}

/** Who is connected, and who may be. */
export class Viewers {
  constructor(maxViewers, host, allowOrigins, fileOrigin) {
    this.connected = new Set();
    this.maxViewers = maxViewers;
    this.views = new Map(); // id of each open view: its connection
    this.allowOrigins = new Set(allowOrigins.map((origin) => origin.replace(/\/+$/, "").toLowerCase()));
    this.fileOrigin = fileOrigin;
    this.ownNames = new Set([host.toLowerCase(), os.hostname().toLowerCase()]);
  }

  /**
   * Whether a page of this origin may connect to us, whom it called by the Host header `host`.
   * Not just "origin equals host": a hostile name can be made to point at 127.0.0.1 (DNS rebinding).
   */
  mayComeFrom(origin, host) {
    const from = origin.toLowerCase();
    if (from === "null") {
      return this.fileOrigin; // pages opened from disk
    }
    if (this.allowOrigins.has(from)) {
      return true;
    }
    const match = /^https?:\/\/(([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d+)?)$/.exec(from);
    if (!match) {
      return false;
    }
    const name = match[2].replace(/[[\]]/g, "");
    if (["localhost", "127.0.0.1", "::1"].includes(name)) {
      return true;
    }
    return match[1] === host.toLowerCase() && (this.ownNames.has(name) || net.isIP(name) > 0);
  }
}

/** A view in the server's own session: its name, how many use it, and its subscriptions to updates. */
class SharedView {
  constructor(key) {
    this.key = key;
    this.name = randomBytes(16).toString("hex");
    this.users = 0;
    this.made = null; // promise of whether the engine made it
    this.updates = new Map(); // body of the request to subscribe (it names the mode): its message number
  }
}

/**
 * Views of equal shape are made once, by the server itself, for all viewers that ask for them: on every update the
 * engine works for each view, and for each subscription. A viewer that collapses or expands rows gets one of its own.
 */
export class SharedViews {
  constructor(engine, viewers) {
    this.viewers = viewers;
    this.session = engine.session((message) => this.take(message));
    this.shapes = new Map(); // table and shape: SharedView
    this.lastNumber = 0; // of messages to the engine
    this.answers = new Map(); // message number of a request to make a view: what to tell its answer's kind
    this.subscribers = new Map(); // message number of a subscription: [{viewer, number, name}]
  }

  next() {
    this.lastNumber += 1;
    return this.lastNumber;
  }

  async request(number, kind, entity, body) {
    await (await this.session).request(encode([1, number], [2, entity], [kind, body]));
  }

  /** What the engine said: whether a view was made, or an update for all subscribers of a view. */
  take(message) {
    const found = fields(Buffer.from(message));
    const number = found.find(([n]) => n === 1)?.[1] ?? 0;
    const [kind, body] = found.find(([n]) => n > 2);
    this.answers.get(number)?.(kind);
    this.answers.delete(number);
    for (const each of [...(this.subscribers.get(number) ?? [])]) {
      each.viewer.send(encode([1, each.number], [2, each.name], [kind, body]));
    }
  }

  /** The SharedView of this shape, or null when the engine refuses to make it. */
  async join(table, config) {
    // maps (expressions 6, aggregates 7) come in any order; the order within the other fields means something
    const shape = fields(config).map(([n, value]) => [n, typeof value === "number" ? value : value.toString("latin1")]);
    const text = ([n, value]) => (n === 6 || n === 7 ? String(value) : "");
    shape.sort((a, b) => a[0] - b[0] || (text(a) < text(b) ? -1 : Number(text(a) > text(b))));
    const key = JSON.stringify([table, shape]);
    let view = this.shapes.get(key);
    if (!view) {
      view = new SharedView(key);
      this.shapes.set(key, view);
      this.viewers.views.set(view.name, this);
      view.made = this.make(view, table, config);
    }
    view.users += 1;
    if (await view.made) {
      return view;
    }
    view.users -= 1;
    return null;
  }

  async make(view, table, config) {
    const number = this.next();
    const answer = new Promise((resolve) => {
      this.answers.set(number, resolve); // bound: the engine answers while it handles the request
    });
    await this.request(number, 6, table, encode([1, view.name], [2, config]));
    const isMade = (await answer) === 6;
    if (!isMade) {
      this.forget(view);
    }
    return isMade;
  }

  forget(view) {
    this.shapes.delete(view.key);
    this.viewers.views.delete(view.name);
  }

  async leave(view) {
    view.users -= 1;
    if (!view.users) {
      this.forget(view);
      await this.request(this.next(), 11, view.name, "");
    }
  }

  async subscribe(view, mode, viewer, number, name) {
    const ours = view.updates.get(mode);
    if (ours !== undefined) {
      this.subscribers.get(ours).push({ viewer, number, name });
      return;
    }
    const fresh = this.next();
    view.updates.set(mode, fresh);
    this.subscribers.set(fresh, [{ viewer, number, name }]);
    await this.request(fresh, 21, view.name, mode);
  }

  async unsubscribe(view, viewer, number) {
    for (const [mode, ours] of [...view.updates]) {
      const left = this.subscribers.get(ours).filter((each) => each.viewer !== viewer || each.number !== number);
      this.subscribers.set(ours, left);
      if (!left.length) {
        view.updates.delete(mode);
        this.subscribers.delete(ours);
        await this.request(this.next(), 22, view.name, encode([1, ours]));
      }
    }
  }
}

/** A viewer's connection: it may look, not touch, and can't use up the server. */
export class Viewer {
  constructor(socket, peer, engine, viewers, shared) {
    Object.assign(this, { socket, peer, viewers, shared });
    this.isRefused = this.hasEnded = false;
    this.isAlive = true;
    this.joined = new Map(); // the viewer's name of a view: {view, request, updates, deletes} of its part in it
    this.subscribed = new Map(); // message number of each subscription: the view or table
    this.unasked = new Set(); // numbers of messages that we sent in the viewer's name: their answers are kept back
    this.session = engine.session((message) => this.answer(Buffer.from(message)));
    this.turn = Promise.resolve(); // of one request after the other
    this.waiting = 0; // requests
    viewers.connected.add(this);
    socket.on("message", (data, isBinary) => this.onMessage(data, isBinary));
    socket.on("pong", () => {
      this.isAlive = true;
    });
    socket.on("error", () => {}); // wrong frames: ws closes the connection
    socket.on("close", () => this.onClose());
  }

  /** What the engine said in this viewer's session. */
  answer(message) {
    if (this.unasked.size && this.unasked.delete(field(message, 1))) {
      return;
    }
    this.send(message);
  }

  /** Sends unless the viewer reads too slowly: ws would keep what it doesn't take, without a bound. */
  send(message) {
    if (this.isRefused || this.hasEnded) {
      return;
    }
    if (this.socket.bufferedAmount + message.length > MAX_UNSENT) {
      this.refuse(1013, "reads too slowly");
      return;
    }
    this.socket.send(message, () => {}); // a connection that is lost is no error here
  }

  /** Closes the connection, once, with one line in the log; what it still sends is not looked at. */
  refuse(code, reason) {
    if (!this.isRefused) {
      this.isRefused = true;
      log("WARNING", `viewer ${this.peer} refused: ${reason}`);
      this.socket.close(code, reason.slice(0, 100));
    }
  }

  /** Pings; a viewer that has not answered the last one is dropped. */
  ping() {
    if (!this.isAlive) {
      this.socket.terminate();
      return;
    }
    this.isAlive = false;
    this.socket.ping();
  }

  /** Why a request may not reach the engine, or null. Error when it is no request. */
  refusal({ number, kind, entity, body }) {
    if (!Object.hasOwn(ALLOWED, kind)) {
      return `request kind ${DENIED[kind] ?? "unknown"} (${kind})`;
    }
    if (kind === 6 || kind === 9) {
      const expressions = expressionsOf(kind, body);
      if (expressions.some(isHarmful)) {
        return "an expression with a loop, an array, too many brackets, or text that grows again and again";
      }
      if (expressions.reduce((sum, expression) => sum + expression.length, 0) > MAX_EXPRESSIONS) {
        return `more than ${MAX_EXPRESSIONS} bytes of expressions`;
      }
    }
    if (SUBSCRIBES.has(kind) || (kind === 4 && body.length)) {
      if (this.subscribed.has(number) || this.subscribed.size === MAX_SUBSCRIPTIONS) {
        return `more than ${MAX_SUBSCRIPTIONS} subscriptions, or two of one number`;
      }
      this.subscribed.set(number, entity);
    }
    if (kind === 6) {
      return this.refusalOfView(body);
    }
    if (OF_A_VIEW.has(kind) && (this.viewers.views.get(entity) ?? this) !== this) {
      return `request kind ${ALLOWED[kind]} (${kind}) for a view of another connection`;
    }
    return null;
  }

  refusalOfView(body) {
    const parts = fields(body);
    const name = parts[0]?.[1];
    const isNamed = ["1", "1,2"].includes(parts.map(([n]) => n).join()) && typeof name !== "number" && name.length >= 8;
    if (!isNamed || typeof parts[1]?.[1] === "number" || this.viewers.views.has(name.toString("latin1"))) {
      return "request kind table_make_view (6) without a view id of its own";
    }
    if ([...this.viewers.views.values()].filter((owner) => owner === this).length === MAX_VIEWS) {
      return `more than ${MAX_VIEWS} views`;
    }
    const levels = fields(parts[1]?.[1] ?? Buffer.alloc(0)).filter(([n]) => n === 1 || n === 2); // group_by, split_by
    return levels.length > MAX_LEVELS ? `a view with more than ${MAX_LEVELS} groups` : null;
  }

  /** Requests are handled one after the other: the order is kept, and a flood waits outside. */
  onMessage(data, isBinary) {
    if (this.isRefused) {
      return;
    }
    let request, reason;
    try {
      if (!isBinary) {
        throw new Error("a text message");
      }
      request = parseRequest(data);
      reason = this.refusal(request);
    } catch (error) {
      reason = error.message;
    }
    if (reason) {
      this.refuse(1008, reason);
      return;
    }
    this.waiting += 1;
    this.socket.pause();
    this.turn = this.turn
      .then(() => this.handle(data, request))
      // whatever the engine says of a broken request concerns this viewer only
      .catch((error) => this.refuse(1008, `request failed: ${String(error?.message ?? error).slice(0, 80)}`))
      .then(() => {
        this.waiting -= 1;
        if (!this.waiting) {
          this.socket.resume();
        }
      });
  }

  async ask(message) {
    await (await this.session).request(message);
  }

  /** Hands a request to the engine, or takes part in a shared view instead of making one. */
  async handle(message, { number, kind, entity, body }) {
    if (this.isRefused || this.hasEnded) {
      return;
    }
    const joined = this.joined.get(entity);
    if ([22, 30, 35, 37].includes(kind)) {
      this.subscribed.delete(field(body, 1));
    } else if (kind === 11) {
      for (const [subscription, of] of [...this.subscribed]) {
        if (of === entity) {
          this.subscribed.delete(subscription);
        }
      }
    }
    if (kind === 5) {
      // the engine would keep each port for ever, and look at all of them at each update
      this.send(encode([1, number], [2, entity], [5, encode([1, 1])]));
    } else if (kind === 6) {
      await this.makeView(message, number, entity, body);
    } else if (!joined) {
      await this.ask(message);
      if (kind === 11) {
        this.viewers.views.delete(entity);
      }
    } else if (CHANGES_A_VIEW.has(kind)) {
      await this.part(entity);
      await this.ask(message);
    } else if (kind === 21) {
      joined.updates.set(number, body);
      await this.shared.subscribe(joined.view, body.toString("latin1"), this, number, entity);
    } else if (kind === 34) {
      joined.deletes.set(number, body);
    } else if ([22, 35, 11].includes(kind)) {
      const theirs = field(body, 1);
      joined.deletes.delete(theirs);
      if (joined.updates.delete(theirs)) {
        await this.shared.unsubscribe(joined.view, this, theirs);
      }
      if (kind === 11) {
        await this.leave(entity);
        this.viewers.views.delete(entity);
        for (const subscription of joined.deletes.keys()) {
          this.send(encode([1, subscription], [2, entity], [34, ""]));
        }
      }
      this.send(encode([1, number], [2, entity], [kind, ""]));
    } else {
      await this.ask(encode([1, number], [2, joined.view.name], [kind, body]));
    }
  }

  async makeView(message, number, entity, body) {
    const [name, config] = [field(body, 1).toString("latin1"), field(body, 2) ?? Buffer.alloc(0)];
    const view = await this.shared.join(entity, config);
    if (!view) {
      await this.ask(message); // which tells the viewer what is wrong with it
      return;
    }
    this.viewers.views.set(name, this);
    this.joined.set(name, { view, request: message, updates: new Map(), deletes: new Map() });
    this.send(encode([1, number], [2, entity], [6, encode([1, name])]));
  }

  async leave(name) {
    const joined = this.joined.get(name);
    this.joined.delete(name);
    for (const number of joined.updates.keys()) {
      await this.shared.unsubscribe(joined.view, this, number);
    }
    await this.shared.leave(joined.view);
    return joined;
  }

  /** Gives the viewer a view of its own instead of the shared one, with the same subscriptions. */
  async part(name) {
    const joined = await this.leave(name);
    this.unasked.add(parseRequest(joined.request).number);
    await this.ask(joined.request);
    for (const [kind, subscriptions] of [
      [21, joined.updates],
      [34, joined.deletes],
    ]) {
      for (const [number, body] of subscriptions) {
        await this.ask(encode([1, number], [2, name], [kind, body]));
      }
    }
  }

  onClose() {
    this.hasEnded = true;
    this.viewers.connected.delete(this);
    this.turn = this.turn
      .then(() => this.end())
      .catch((error) => log("ERROR", `viewer ${this.peer}: ${error.message}`));
  }

  /** Bound: one request; then the engine drops the session's views. */
  async end() {
    for (const name of [...this.joined.keys()]) {
      await this.leave(name);
    }
    await (await this.session).close();
    for (const [name, owner] of [...this.viewers.views]) {
      if (owner === this) {
        this.viewers.views.delete(name);
      }
    }
  }
}

// HTTP: the page, /healthz, the viewer's packages

const TYPES = {
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
};
// what all answers share: no guessing of types
const HEADERS = { "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache" };

function answer(response, status, text, headers = {}) {
  const body = Buffer.from(text);
  const plain = { "Content-Type": "text/plain; charset=utf-8", "Content-Length": body.length };
  response.writeHead(status, { ...HEADERS, ...plain, ...headers });
  response.end(response.req.method === "HEAD" ? undefined : body);
}

function fail(response, status) {
  answer(response, status, `${status} ${http.STATUS_CODES[status]}\n`, { Connection: "close" });
}

/** The page's Content-Security-Policy, which lets it run its own scripts and nothing else. */
export function policyOf(page, hosts, hasPackages) {
  const scripts = [...page.toString("utf8").matchAll(/<script(?![^>]*\ssrc=)[^>]*>(.*?)<\/script>/gs)];
  // the viewer's text filters have one inline handler, which makes them as wide as their text
  const allowed = [FILTER_HANDLER, ...scripts.map(([, script]) => script)];
  const hashes = allowed.map((script) => `'sha256-${createHash("sha256").update(script).digest("base64")}'`);
  const cdn = hasPackages ? "" : ` ${new URL(CDN).origin}`;
  const sockets = hosts
    .filter((host) => /^([\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?)$/.test(host))
    .map((host) => ` ws://${host} wss://${host} http://${host} https://${host}`)
    .join("");
  return (
    `default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'unsafe-hashes' ${hashes.join(" ")}${cdn}; ` +
    `style-src 'self' 'unsafe-inline'${cdn}; img-src 'self' data: blob:; font-src 'self' data:${cdn}; ` +
    `connect-src 'self'${sockets}${cdn}; ` +
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
  );
}

async function sendPage(request, response, root) {
  const page = await fs.promises.readFile(path.join(root, "prsp-viewer.html"));
  // the page's own address, and the one that ?server= names
  const named = new URLSearchParams(request.url.split("?")[1] ?? "").get("server") ?? "";
  const policy = policyOf(page, [request.headers.host ?? "", named], fs.existsSync(path.join(root, "node_modules")));
  answer(response, 200, page, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy });
}

/** State of the feeds as JSON; pages that may open the WebSocket may read it too. */
function sendHealth(request, response, feeds, viewers) {
  const { origin, host } = request.headers;
  const headers = { "Content-Type": "application/json; charset=UTF-8" };
  if (origin && viewers.mayComeFrom(origin, host ?? "")) {
    Object.assign(headers, { "Access-Control-Allow-Origin": origin, Vary: "Origin" });
  }
  const tables = Object.fromEntries(feeds.map((feed) => [feed.name, feed.health()]));
  const states = Object.values(tables).map((table) => table.status);
  const status = ["waiting", "stale"].find((state) => states.includes(state)) ?? "ok";
  answer(response, 200, JSON.stringify({ status, tables, viewers: viewers.connected.size }), headers);
}

/** A file of the viewer's packages, in the CDN's path layout, or a redirect to the CDN where they are not installed. */
async function sendPackage(response, packages, name) {
  const match = /^(@perspective-dev\/[a-z0-9-]+)@(\d+\.\d+\.\d+)\/((?:[\w@-][\w.@-]*\/)*[\w@-][\w.@-]*)$/.exec(name);
  if (!match) {
    fail(response, 404);
    return;
  }
  const [, pack, version, file] = match;
  let installed = null;
  try {
    installed = JSON.parse(await fs.promises.readFile(path.join(packages, pack, "package.json"), "utf8")).version;
  } catch {} // not installed
  if (installed !== version) {
    answer(response, 302, "", { Location: CDN + name });
    return;
  }
  const root = await fs.promises.realpath(packages);
  const found = await fs.promises.realpath(path.join(root, pack, file)); // so that links out of it are noticed
  if (!found.startsWith(root + path.sep)) {
    fail(response, 403);
    return;
  }
  answer(response, 200, await fs.promises.readFile(found), {
    "Content-Type": TYPES[path.extname(found)] ?? "application/octet-stream",
    "Cache-Control": "public, max-age=31536000, immutable", // the address holds the version
  });
}

/** The http server: the page, /healthz and /npm/; root: the folder of the page and of node_modules. */
export function makeHttpServer(feeds, viewers, root) {
  const limits = { headersTimeout: 10_000, requestTimeout: 10_000, keepAliveTimeout: 60_000 };
  const server = http.createServer({ ...limits, connectionsCheckingInterval: 5000 }, (request, response) => {
    const where = request.url.split("?")[0];
    const known = ["/", "/healthz", "/websocket"].includes(where) || where.startsWith("/npm/");
    let done;
    if (Number(request.headers["content-length"] ?? 0) > MAX_BODY) {
      fail(response, 413);
    } else if (!known) {
      fail(response, 404);
    } else if (!["GET", "HEAD"].includes(request.method)) {
      fail(response, 405);
    } else if (where === "/") {
      done = sendPage(request, response, root);
    } else if (where === "/healthz") {
      sendHealth(request, response, feeds, viewers);
    } else if (where === "/websocket") {
      fail(response, 400); // without an upgrade
    } else {
      done = sendPackage(response, path.join(root, "node_modules"), where.slice("/npm/".length));
    }
    done?.catch(() => fail(response, 404)); // no such file
  });
  server.timeout = 60_000; // of a connection that says nothing
  return server;
}

/** Lets viewers connect at /websocket. WebSocketServer: of ws. */
export function acceptViewers(server, WebSocketServer, engine, viewers, shared) {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE, closeTimeout: CLOSE_MS });
  server.on("upgrade", (request, socket, head) => {
    const { origin, host } = request.headers;
    socket.on("error", () => {}); // it ends
    let status = null;
    let text = "";
    if (request.url.split("?")[0] !== "/websocket") {
      status = 404;
    } else if (request.method !== "GET") {
      status = 405;
    } else if (origin !== undefined && !viewers.mayComeFrom(origin, host ?? "")) {
      [status, text] = [403, "pages of this origin may not connect, see --allow-origin\n"];
    } else if (viewers.connected.size >= viewers.maxViewers) {
      [status, text] = [503, "too many viewers, see --max-viewers\n"];
    }
    if (status) {
      const lines = [`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}`, "X-Content-Type-Options: nosniff"];
      lines.push("Content-Type: text/plain; charset=utf-8", `Content-Length: ${text.length}`, "Connection: close");
      socket.end(`${lines.join("\r\n")}\r\n\r\n${text}`);
      return;
    }
    const peer = `${request.socket.remoteAddress}:${request.socket.remotePort}`;
    sockets.handleUpgrade(request, socket, head, (accepted) => new Viewer(accepted, peer, engine, viewers, shared));
  });
  setInterval(() => {
    for (const viewer of viewers.connected) {
      viewer.ping();
    }
  }, PING_MS).unref();
}

// Options, and how the parts are put together

/** Where TDengine is: {url, authorization, server: how to show it, database}. Error when the DSN is unusable. */
export function splitDsn(dsn, passwordFile) {
  const parts = new URL(dsn);
  const scheme = { "ws:": "http:", "wss:": "https:", "http:": "http:", "https:": "https:" }[parts.protocol];
  const authority = dsn
    .match(/^\w+:\/\/([^/?#]*)/)?.[1]
    .split("@")
    .at(-1);
  if (!scheme || !parts.hostname || !authority) {
    throw new Error("no scheme that we know, or no host");
  }
  const user = decodeURIComponent(parts.username) || "root";
  const password = passwordFile
    ? fs.readFileSync(passwordFile, "utf8").replace(/[\r\n]+$/, "")
    : decodeURIComponent(parts.password) || "taosdata";
  const port = authority.match(/:(\d+)$/)?.[1] ?? (scheme === "https:" ? 443 : 6041);
  const token = parts.searchParams.get("token"); // of TDengine Cloud
  const query = token ? `?${new URLSearchParams({ token })}` : "";
  return {
    url: `${scheme}//${parts.hostname}:${port}/rest/sql${query}`,
    authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`,
    server: `${parts.protocol}//${authority}`,
    database: parts.pathname.replace(/^\/+|\/+$/g, ""),
  };
}

/** Prints one line and ends with status 2. */
function unusable(script, line) {
  process.stderr.write(`${script}: ${line} (--help tells more)\n`);
  process.exit(2);
}

function wholeNumber(script, flag, text, least, most) {
  if (!/^\d{1,10}$/.test(text) || Number(text) < least || Number(text) > most) {
    unusable(script, `--${flag}: '${text}' is not a whole number from ${least} to ${most}`);
  }
  return Number(text);
}

function identifier(script, text) {
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(text)) {
    unusable(script, `--database: '${text}' is not a name (letters, digits, _; at most 64)`);
  }
  return text.toLowerCase();
}

/** The DSN's parts, or the end of the script. */
function tdengineAt(script, dsn, passwordFile) {
  try {
    const tdengine = splitDsn(dsn, passwordFile);
    if (tdengine.database && !/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(tdengine.database)) {
      throw new Error("no database's name");
    }
    return tdengine;
  } catch (error) {
    if (["open", "read"].includes(error.syscall)) {
      return unusable(script, `can't read the password file ${passwordFile}: ${error.code}`);
    }
    // not shown: the DSN may hold a password
    return unusable(script, "unusable DSN, one looks like ws://USER:PASSWORD@HOST:6041 (special characters as %XX)");
  }
}

/** The flags' values by name; ends with one line and status 2 for unknown ones, and after --help. */
function parseFlags(script, options, help) {
  try {
    const { values } = util.parseArgs({ options: { ...options, help: { type: "boolean", short: "h" } } });
    if (values.help) {
      process.stdout.write(help);
      process.exit(0);
    }
    return values;
  } catch (error) {
    return unusable(script, error.message.split(/\n|\. /)[0]);
  }
}

const HELP = `usage: node server.js [flags]

Polls TDengine for the last second of rows and serves them as live Perspective tables.

  --dataset meters|stocks|all  which tables (default: meters)
  --dsn DSN                    default: $TDENGINE_DSN or ${DEFAULT_DSN}
  --password-file FILE         holds the password for the DSN, which then needs none
  --database NAME              default: the DSN's, or else the dataset's own
  --interval MS                between polls (default: 250)
  --limit N                    rows a table holds (default: 1000)
  --host H                     address to listen on (default: 127.0.0.1)
  --port P                     default: 8080
  --allow-origin ORIGIN        pages that may connect too; may be repeated
  --no-file-origin             refuse pages opened from disk
  --max-viewers N              connections (default: 200)
`;

function parseArguments() {
  const script = "server.js";
  const text = (value) => ({ type: "string", default: value });
  const flags = parseFlags(
    script,
    {
      dataset: text("meters"),
      dsn: text(process.env.TDENGINE_DSN || DEFAULT_DSN),
      "password-file": { type: "string" },
      database: { type: "string" },
      interval: text("250"),
      limit: text("1000"),
      host: text("127.0.0.1"),
      port: text("8080"),
      "allow-origin": { type: "string", multiple: true, default: [] },
      "no-file-origin": { type: "boolean", default: false },
      "max-viewers": text("200"),
    },
    HELP,
  );
  if (!Object.hasOwn(DATASETS, flags.dataset) && flags.dataset !== "all") {
    unusable(script, `--dataset: '${flags.dataset}' is not meters, stocks or all`);
  }
  for (const origin of flags["allow-origin"]) {
    if (!/^https?:\/\/[^/?#@\s]+\/?$/.test(origin)) {
      unusable(script, `--allow-origin: '${origin}' is not an origin such as https://demo.example`);
    }
  }
  const args = { dataset: flags.dataset, host: flags.host, allowOrigins: flags["allow-origin"] };
  args.fileOrigin = !flags["no-file-origin"];
  args.interval = wholeNumber(script, "interval", flags.interval, 10, 60_000);
  args.limit = wholeNumber(script, "limit", flags.limit, 1, 10 ** 8);
  args.port = wholeNumber(script, "port", flags.port, 0, 65_535);
  args.maxViewers = wholeNumber(script, "max-viewers", flags["max-viewers"], 0, 10 ** 5);
  args.tdengine = tdengineAt(script, flags.dsn, flags["password-file"]);
  const database = flags.database ?? args.tdengine.database;
  args.database = database === "" && flags.database === undefined ? "" : identifier(script, database);
  return args;
}

/** Polls on every full interval of the clock, plus a little: the producer's batches are due at full intervals. */
async function pollAgainAndAgain(feed, intervalMs) {
  const lagMs = Math.min(LAG_MS, 0.4 * intervalMs);
  while (true) {
    const untilDueMs = intervalMs - ((Date.now() - lagMs) % intervalMs);
    await sleep(untilDueMs);
    await feed.poll();
  }
}

/** Perspective and ws, or the end of the script where they are not installed. */
async function importPackages() {
  try {
    const [perspective, ws] = await Promise.all([import("@perspective-dev/client"), import("ws")]);
    return { perspective, WebSocketServer: ws.WebSocketServer };
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND") {
      throw error;
    }
    process.stderr.write(`server.js: its packages are not installed: npm ci in ${path.join(ROOT, "node")}\n`);
    return process.exit(1);
  }
}

/** Resolves once it listens; the port, which --port 0 leaves open. */
function listen(server, port, host) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve(server.address().port));
  });
}

async function main() {
  if (Number.parseInt(process.versions.node, 10) < OLDEST_NODE) {
    process.stderr.write(`server.js: this is Node ${process.versions.node}, it needs ${OLDEST_NODE} or newer\n`);
    process.exit(1);
  }
  const args = parseArguments();
  const { perspective, WebSocketServer } = await importPackages();
  const engine = new Engine(perspective);
  const viewers = new Viewers(args.maxViewers, args.host, args.allowOrigins, args.fileOrigin);
  const chosen = args.dataset === "all" ? Object.values(DATASETS) : [DATASETS[args.dataset]];
  const feeds = chosen.map((each) => {
    return new Feed(each, args.database || each.database, args.tdengine, engine, args.limit);
  });
  const server = makeHttpServer(feeds, viewers, ROOT);
  acceptViewers(server, WebSocketServer, engine, viewers, new SharedViews(engine, viewers));
  let port;
  try {
    port = await listen(server, args.port, args.host);
  } catch (error) {
    process.stderr.write(
      `server.js: can't listen on ${args.host}:${args.port} (${error.code}): choose another --host or --port\n`,
    );
    process.exit(1);
  }
  log("INFO", `page at http://${args.host}:${port}/, polling ${args.tdengine.server} every ${args.interval} ms`);
  const stopped = new Promise((resolve) => {
    process.once("SIGINT", resolve);
    process.once("SIGTERM", resolve);
  });
  let status = 0;
  try {
    await Promise.race([stopped, ...feeds.map((feed) => pollAgainAndAgain(feed, args.interval))]);
  } catch (error) {
    log("ERROR", error.stack);
    status = 1;
  }
  server.close();
  for (const viewer of viewers.connected) {
    viewer.socket.close(1001, "server stops");
  }
  await sleep(100); // for the close frames
  process.exit(status); // whatever is still on its way
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === url.fileURLToPath(import.meta.url)) {
  await main();
}
