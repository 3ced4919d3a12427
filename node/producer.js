#!/usr/bin/env node
/**
 * Inserts random rows into TDengine on a steady beat, through its REST interface.
 *
 *     node producer.js [--dataset meters|stocks] [--dsn DSN] [--interval MS] [--rows N]
 *
 * A batch is made every interval and kept until TDengine has confirmed it. A batch that failed is sent again with the
 * same timestamps: TDengine then overwrites, so no row is there twice. Every wait for TDengine has a time limit.
 */

import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import url from "node:url";
import util from "node:util";

const OLDEST_NODE = 20;
const DEFAULT_DSN = "ws://root:taosdata@localhost:6041";
const TICKERS = ["AAPL.N", "AMZN.N", "QQQ.N", "NVDA.N", "TSLA.N", "FB.N", "MSFT.N", "TLT.N", "XIV.N", "YY.N", "CSCO.N"];
TICKERS.push("GOOGL.N", "PCLN.N");
const CLIENTS = ["Homer", "Marge", "Bart", "Lisa", "Maggie", "Moe", "Lenny", "Carl", "Krusty"];
const LOCATIONS = ["San Francisco", "Los Angeles", "San Diego", "San Jose", "Palo Alto"];
LOCATIONS.push("Campbell", "Mountain View", "Sunnyvale", "Santa Clara", "Cupertino");

const ROWS_PER_STATEMENT = 5000; // TDengine takes statements of up to 1 MB, a row is 110 bytes at most
const ANSWER_LIMIT_MS = 6000; // an answer of TDengine that takes longer does not come any more
const QUICK_MS = 250; // an answer that comes sooner tells that TDengine could take more at once
const RETRY_MS = 500; // between two tries to connect
const FINISH_MS = 4500; // what is kept is still sent for so long after SIGINT or SIGTERM
const UNITS_PER_S = { ms: 10n ** 3n, us: 10n ** 6n, ns: 10n ** 9n };
// Refused password or user, no permission, a column that the table hasn't, values that it can't hold, broken SQL:
// trying again can't help. Anything else (no connection, server starting, table dropped meanwhile) may pass.
const HOPELESS = ["0x0357", "0x0351", "0x2644", "0x2602", "0x2653", "0x0216", "0x2600", "0x2605", "0x060B"];

// The datasets: how they are created, a batch of random columns, and the batch as SQL

/** A normally distributed random number. */
function normal(deviation) {
  return deviation * Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

function uniform(least, most) {
  return least + (most - least) * Math.random();
}

/** Four digits after the point: as much as a FLOAT of such a size can tell, and shorter SQL. */
function rounded(value) {
  return Math.round(value * 10_000) / 10_000;
}

export class Stocks {
  static database = "stocks";
  static table = "stocks_values";
  static create =
    "CREATE TABLE IF NOT EXISTS {table} (`timestamp` TIMESTAMP, ticker NCHAR(10), client NCHAR(10), " +
    "open FLOAT, high FLOAT, low FLOAT, close FLOAT, volume INT UNSIGNED, `date` TIMESTAMP)";
  static drop = "DROP TABLE IF EXISTS {table}";

  constructor() {
    this.usual = TICKERS.map(() => uniform(20, 400)); // the price each ticker wanders around
    this.price = [...this.usual];
  }

  /** Columns of `rows` trades: a random walk per ticker, low <= open, close <= high. */
  make(rows) {
    const batch = { ticker: new Uint8Array(rows), client: new Uint8Array(rows), volume: new Uint32Array(rows) };
    for (const name of ["open", "high", "low", "close"]) {
      batch[name] = new Float64Array(rows);
    }
    for (let k = 0; k < rows; k++) {
      const ticker = Math.floor(Math.random() * TICKERS.length);
      const open = this.price[ticker];
      // drawn back to its usual price by a little, so that a demo left running stays below 500
      const pull = ((0.02 * TICKERS.length) / rows) * Math.log(this.usual[ticker] / open);
      const close = rounded(open * Math.exp(normal(0.0008) + Math.max(-0.01, Math.min(pull, 0.01))));
      this.price[ticker] = close;
      batch.ticker[k] = ticker;
      batch.client[k] = Math.floor(Math.random() * CLIENTS.length);
      batch.open[k] = rounded(open);
      batch.high[k] = rounded(Math.max(open, close) * (1 + uniform(0, 0.001)));
      batch.low[k] = rounded(Math.min(open, close) * (1 - uniform(0, 0.001)));
      batch.close[k] = close;
      batch.volume[k] = 10_000 + Math.floor(Math.random() * 90_001);
    }
    return batch;
  }

  /** One statement for all rows of parts: {stamps, columns, from, to}; stamps: BigInts in the database's precision. */
  static insert(table, parts, unitsPerS) {
    const rows = [];
    for (const { stamps, columns, from, to } of parts) {
      const today = (stamps.at(-1) / (86_400n * unitsPerS)) * 86_400n * unitsPerS; // midnight UTC
      for (let k = from; k < to; k++) {
        const prices = [columns.open[k], columns.high[k], columns.low[k], columns.close[k]];
        const names = [TICKERS[columns.ticker[k]], CLIENTS[columns.client[k]]];
        rows.push(`(${[stamps[k], ...names, ...prices, columns.volume[k], today].map(literal).join(",")})`);
      }
    }
    return `INSERT INTO ${table} VALUES ${rows.join(" ")}`;
  }
}

export class Meters {
  static database = "power";
  static table = "meters";
  static create =
    "CREATE STABLE IF NOT EXISTS {table} (ts TIMESTAMP, current FLOAT, voltage INT, phase FLOAT) " +
    "TAGS (groupid INT, location BINARY(16))";
  static drop = "DROP STABLE IF EXISTS {table}";

  constructor() {
    // every meter has a level of its own for current, voltage and phase, and wanders around it
    this.usual = LOCATIONS.map(() => [uniform(5, 15), uniform(205, 220), uniform(0.1, 0.5)]);
    this.level = this.usual.map((levels) => [...levels]);
  }

  /** Columns of `rows` readings, the meters taking turns; a random walk per meter. */
  make(rows) {
    const batch = { current: new Float64Array(rows), voltage: new Uint8Array(rows), phase: new Float64Array(rows) };
    for (let k = 0; k < rows; k++) {
      const [level, usual] = [this.level[k % LOCATIONS.length], this.usual[k % LOCATIONS.length]];
      [0.05, 0.15, 0.002].forEach((step, j) => {
        level[j] += normal(step) + 0.01 * (usual[j] - level[j]);
      });
      batch.current[k] = rounded(Math.max(level[0], 0));
      batch.voltage[k] = Math.max(200, Math.min(Math.round(level[1]), 225));
      batch.phase[k] = rounded(Math.max(level[2], 0));
    }
    return batch;
  }

  /** One statement for all rows of parts: {stamps, columns, from, to}, into as many subtables as they belong to. */
  static insert(table, parts) {
    const database = table.split(".")[0];
    const rows = LOCATIONS.map(() => []);
    for (const { stamps, columns, from, to } of parts) {
      for (let k = from; k < to; k++) {
        const row = [stamps[k], columns.current[k], columns.voltage[k], columns.phase[k]];
        rows[k % LOCATIONS.length].push(`(${row.map(literal).join(",")})`);
      }
    }
    const targets = LOCATIONS.map((location, meter) => {
      const tags = `(groupid, location) TAGS (${literal(meter)},${literal(location)})`;
      return `${database}.d_${meter} USING ${table} ${tags} VALUES ${rows[meter].join(" ")}`;
    });
    return `INSERT INTO ${targets.filter((_, meter) => rows[meter].length).join(" ")}`;
  }
}

export const DATASETS = { meters: Meters, stocks: Stocks };

/** A value as TDengine's SQL writes it: string, number, BigInt, boolean or null. TypeError for what it can't write. */
export function literal(value) {
  if (value === null || value === undefined) {
    return "NULL";
  }
  if (typeof value === "bigint" || typeof value === "boolean" || Number.isFinite(value)) {
    return String(value);
  }
  // TDengine ends its SQL at a NUL, whatever stands before it
  if (typeof value !== "string" || value.includes("\0")) {
    throw new TypeError(`SQL can't hold ${util.inspect(value)}`);
  }
  const escapes = { "\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  return `'${value.replace(/[\\'\n\r\t]/g, (letter) => escapes[letter])}'`;
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

/** The database's timestamp units per second, or null when there is no such database. */
async function precisionOf(tdengine, database) {
  const named = `WHERE name = ${literal(database)}`;
  const rows = await query(tdengine, `SELECT \`precision\` FROM information_schema.ins_databases ${named}`);
  return rows.length ? UNITS_PER_S[rows[0][0]] : null;
}

/** Makes database and table if they are missing. Returns the database's timestamp units per second. */
async function prepare(tdengine, dataset, database, reset) {
  let unitsPerS = await precisionOf(tdengine, database);
  if (!unitsPerS) {
    await query(tdengine, `CREATE DATABASE IF NOT EXISTS ${database} PRECISION 'ns'`);
    unitsPerS = await precisionOf(tdengine, database); // another producer may have been faster
  }
  if (!unitsPerS) {
    throw new TDengineError("", `database ${database} is not there yet`);
  }
  for (const sql of reset ? [dataset.drop, dataset.create] : [dataset.create]) {
    await query(tdengine, sql.replace("{table}", `${database}.${dataset.table}`));
  }
  return unitsPerS;
}

// The producer: makes batches on the beat, keeps them until they are confirmed

/** The times at which batches are due, and the timestamps that belong to them. */
export class Beat {
  constructor(intervalMs, rows) {
    this.intervalNs = BigInt(intervalMs) * 1_000_000n;
    this.rows = BigInt(rows);
    this.nextStamp = 0n;
    this.start();
  }

  /** The first batch is due at the next full interval of the clock, shortly after which the server polls. */
  start() {
    this.due = process.hrtime.bigint();
    if (this.intervalNs) {
      this.due += this.intervalNs - (clockNs() % this.intervalNs);
    }
  }

  /** Nanoseconds between two rows; RangeError when the database can't tell the rows of this pace apart. */
  stepNs(unitsPerS) {
    const unitNs = 10n ** 9n / unitsPerS;
    // without an interval rows are stamped as if a million came a second
    const stepNs = this.intervalNs ? (this.intervalNs / this.rows / unitNs) * unitNs : 1000n;
    if (stepNs < unitNs) {
      throw new RangeError(
        `${this.rows} rows in ${this.intervalNs / 1_000_000n} ms can't have timestamps of their own in a database of ` +
          `${unitNs} ns precision: fewer --rows, a longer --interval, or a database of PRECISION 'ns'`,
      );
    }
    return stepNs;
  }

  /**
   * The rows that are due now get timestamps first, first + step, ... in ns since 1970: distinct, also from those of
   * other batches, spread over the interval that has passed. Returns [first, step].
   * Each producer keeps to a random phase within the step between two rows, so that several at once don't collide.
   */
  stamps(unitsPerS) {
    const [stepNs, unitNs] = [this.stepNs(unitsPerS), 10n ** 9n / unitsPerS];
    if (!this.nextStamp) {
      this.phase = BigInt(Math.floor(Math.random() * Number(stepNs / unitNs))) * unitNs;
    }
    const lateNs = this.intervalNs ? process.hrtime.bigint() - this.due : 0n;
    let first = ((clockNs() - lateNs - this.rows * stepNs) / stepNs) * stepNs + this.phase;
    first = first > this.nextStamp ? first : this.nextStamp; // also when the clock was set back
    this.nextStamp = first + this.rows * stepNs;
    return [first, stepNs];
  }
}

function clockNs() {
  return BigInt(Date.now()) * 1_000_000n;
}

/** A line on stderr; on a terminal it takes the place of the refreshing line. */
function say(text, end = "\n") {
  process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${text}${end}` : text + end);
}

function grouped(number) {
  return Math.round(number).toLocaleString("en-US");
}

/** Ends the producer: exit status and a line for the user. */
class Stop extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

/** One line for an error that trying again can't mend, or null. */
function explain(error, server, table) {
  if (["0x0357", "0x0351"].includes(error.code)) {
    return `${server} refuses this user or password (${error.message}): check --dsn, TDENGINE_DSN or --password-file`;
  }
  if (HOPELESS.includes(error.code)) {
    return `${table} at ${server} can't take these rows (${error.message}): a table of another shape? --reset makes it anew`;
  }
  return null;
}

class Producer {
  constructor(args) {
    this.args = args;
    this.dataset = DATASETS[args.dataset];
    this.table = `${args.database}.${this.dataset.table}`;
    this.randomRows = new this.dataset();
    this.beat = new Beat(args.interval, args.rows);
    this.kept = []; // batches not confirmed, oldest first: {first, stepNs, columns}
    this.made = this.sent = this.retries = 0;
    this.unitsPerS = null; // the database's precision, known once it is prepared
    this.waiting = this.backlogSaid = false;
    this.finishBy = null;
    this.shownAt = performance.now();
    this.shownSent = 0;
    this.wake = () => {};
  }

  /** Signal handler: makes no more rows, sends what is kept for FINISH_MS. */
  finish() {
    this.finishBy ??= performance.now() + FINISH_MS;
    this.wake();
  }

  isDone() {
    const { args } = this;
    if (args.batches && this.sent === args.batches) {
      return true;
    }
    return this.finishBy !== null && (!this.kept.length || performance.now() > this.finishBy);
  }

  wantsABatch() {
    if (!this.unitsPerS || this.finishBy !== null || (this.args.batches && this.made === this.args.batches)) {
      return false;
    }
    // without an interval the pace is TDengine's: one batch on its way, one ready
    return this.args.interval > 0 || this.kept.length < 2;
  }

  /** Makes a batch unless the backlog is full. */
  makeABatch() {
    const { rows, backlog } = this.args;
    if ((this.kept.length + 1) * rows > backlog) {
      if (!this.backlogSaid) {
        say(`--backlog is full (${grouped(this.kept.length * rows)} rows): no new rows until some are sent`);
      }
      this.backlogSaid = true;
      this.beat.due = process.hrtime.bigint() + 100_000_000n; // the beats of this pause are left out, not made up for
      return;
    }
    if (this.kept.length * rows * 2 < backlog) {
      this.backlogSaid = false;
    }
    const [first, stepNs] = this.beat.stamps(this.unitsPerS);
    this.kept.push({ first, stepNs, columns: this.randomRows.make(rows) });
    this.made += 1;
    this.beat.due += this.beat.intervalNs;
    this.wake();
  }

  /** Sends the oldest batches, `count` in one statement; a batch that is too large for one goes in several. */
  async sendBatches(count) {
    const { rows, tdengine } = this.args;
    const unitNs = 10n ** 9n / this.unitsPerS;
    const parts = this.kept.slice(0, count).map(({ first, stepNs, columns }) => {
      const stamps = Array.from({ length: rows }, (_, k) => (first + BigInt(k) * stepNs) / unitNs);
      return { stamps, columns, from: 0, to: rows };
    });
    for (let k = 0; k < rows; k += ROWS_PER_STATEMENT) {
      const to = Math.min(k + ROWS_PER_STATEMENT, rows);
      const those = parts.map((part) => ({ ...part, from: k, to }));
      await query(tdengine, this.dataset.insert(this.table, those, this.unitsPerS));
    }
    this.kept.splice(0, parts.length);
    this.sent += parts.length;
  }

  async prepare() {
    const { tdengine, database, rows } = this.args;
    const unitsPerS = await prepare(tdengine, this.dataset, database, this.args.reset);
    this.args.reset = false;
    if (this.waiting) {
      say(`connected to ${tdengine.server}, ${grouped(this.kept.length * rows)} kept rows to send`);
    }
    this.waiting = false;
    try {
      this.beat.stepNs(unitsPerS);
    } catch (error) {
      throw new Stop(2, `${this.table}: ${error.message}`);
    }
    if (!this.unitsPerS) {
      this.beat.start();
    }
    this.unitsPerS = unitsPerS;
  }

  /**
   * Sends what is kept, oldest first; never ends by itself but by a Stop. What has piled up goes in ever larger
   * statements as long as TDengine answers quickly: a slow one might never be done with a large one in time.
   */
  async send() {
    const most = Math.max(1, Math.floor(ROWS_PER_STATEMENT / this.args.rows)); // batches in one statement
    let ready = false;
    let count = 1;
    while (true) {
      try {
        if (!ready) {
          await this.prepare();
          ready = true;
        }
        while (!this.kept.length) {
          await new Promise((resolve) => {
            this.wake = resolve; // bound: the next batch, or the end of the process
          });
        }
        const started = performance.now();
        count = Math.min(count, this.kept.length);
        await this.sendBatches(count);
        const isQuick = performance.now() - started < QUICK_MS;
        count = isQuick ? Math.min(2 * count, most) : Math.max(1, Math.floor(count / 2));
      } catch (error) {
        if (!(error instanceof TDengineError)) {
          throw error;
        }
        ready = false; // the table, too, may have gone
        count = 1;
        await this.failed(error);
      }
    }
  }

  async failed(error) {
    const { server } = this.args.tdengine;
    const line = explain(error, server, this.table);
    if (line) {
      throw new Stop(1, line);
    }
    this.retries += 1;
    if (!this.waiting) {
      say(`waiting for TDengine at ${server} (${error.message}): is it running? Trying on, rows are kept`);
    }
    this.waiting = true;
    await sleep(RETRY_MS);
  }

  /** A line that refreshes on a terminal, one every 5 seconds otherwise. */
  show() {
    const passedS = (performance.now() - this.shownAt) / 1000;
    if (passedS < (process.stderr.isTTY ? 0.5 : 5)) {
      return;
    }
    const { rows } = this.args;
    const pace = ((this.sent - this.shownSent) * rows) / passedS;
    const kept = grouped(this.kept.length * rows);
    const text = `${grouped(this.sent * rows)} rows sent, ${grouped(pace)} rows/s, ${kept} kept, ${this.retries} retries`;
    say(text, process.stderr.isTTY ? "" : "\n");
    [this.shownAt, this.shownSent] = [performance.now(), this.sent];
  }

  /** Makes batches until --batches are sent, or until a signal and what was kept then is sent or FINISH_MS have passed. */
  async keepTheBeat() {
    while (!this.isDone()) {
      while (this.wantsABatch() && process.hrtime.bigint() >= this.beat.due) {
        this.makeABatch();
      }
      const untilDueMs = this.wantsABatch() ? Number(this.beat.due - process.hrtime.bigint()) / 1e6 : 100;
      // at most 0.1 s, so that the display and the end are looked at; often without an interval, or near the end
      const atMostMs = this.args.interval === 0 || this.finishBy !== null || this.made === this.args.batches ? 5 : 100;
      await sleep(Math.max(0, Math.min(untilDueMs, atMostMs)));
      this.show();
    }
  }
}

// Options

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

const HELP = `usage: node producer.js [flags]

Inserts random rows into TDengine on a steady beat.

  --dataset meters|stocks  which rows (default: meters)
  --dsn DSN                default: $TDENGINE_DSN or ${DEFAULT_DSN}
  --password-file FILE     holds the password for the DSN, which then needs none
  --database NAME          default: the DSN's, or else the dataset's own
  --interval MS            between batches; 0: no pause (default: 250)
  --rows N                 rows a batch (default: 250)
  --batches N              stop after N batches (default: 0, never)
  --backlog ROWS           kept while TDengine is away (default: 1000000)
  --reset                  drop the dataset's table first, with all its rows
`;

function parseArguments() {
  const script = "producer.js";
  const text = (value) => ({ type: "string", default: value });
  const flags = parseFlags(
    script,
    {
      dataset: text("meters"),
      dsn: text(process.env.TDENGINE_DSN || DEFAULT_DSN),
      "password-file": { type: "string" },
      database: { type: "string" },
      interval: text("250"),
      rows: text("250"),
      batches: text("0"),
      backlog: text("1000000"),
      reset: { type: "boolean", default: false },
    },
    HELP,
  );
  if (!Object.hasOwn(DATASETS, flags.dataset)) {
    unusable(script, `--dataset: '${flags.dataset}' is not meters or stocks`);
  }
  const args = { dataset: flags.dataset, reset: flags.reset };
  for (const [flag, least] of Object.entries({ interval: 0, rows: 1, batches: 0, backlog: 1 })) {
    args[flag] = wholeNumber(script, flag, flags[flag], least, 10 ** 9);
  }
  if (args.backlog < args.rows) {
    unusable(script, "--backlog must hold at least one batch of --rows");
  }
  args.tdengine = tdengineAt(script, flags.dsn, flags["password-file"]);
  const database = flags.database ?? (args.tdengine.database || DATASETS[args.dataset].database);
  args.database = identifier(script, database);
  return args;
}

async function main() {
  if (Number.parseInt(process.versions.node, 10) < OLDEST_NODE) {
    process.stderr.write(`producer.js: this is Node ${process.versions.node}, it needs ${OLDEST_NODE} or newer\n`);
    process.exit(1);
  }
  const args = parseArguments();
  const producer = new Producer(args);
  for (const name of ["SIGINT", "SIGTERM"]) {
    process.on(name, () => producer.finish());
  }
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", () => {}); // its reader has gone, the rows go on
  }
  say(`${args.rows} rows into ${producer.table} at ${args.tdengine.server} every ${args.interval} ms`);
  let status = 0;
  try {
    await Promise.race([producer.keepTheBeat(), producer.send()]);
  } catch (error) {
    status = error instanceof Stop ? error.status : 1;
    say(`producer.js: ${error instanceof Stop ? error.message : error.stack}`);
  }
  if (producer.kept.length) {
    say(`producer.js: ${producer.kept.length * args.rows} rows not sent`);
    status ||= 1;
  }
  process.stdout.write(`sent ${producer.sent * args.rows} rows in ${producer.sent} batches\n`);
  process.exit(status); // whatever is still on its way
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === url.fileURLToPath(import.meta.url)) {
  await main();
}
