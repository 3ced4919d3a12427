/**
 * Batches on their way to a database: kept until they are confirmed, sent again as they are, never lost unreported.
 *
 *     const outbox = new Outbox({ connect, insert, server: "db.example" });
 *     outbox.put({ ts: [...], value: [...] });
 *     await outbox.close();
 *
 * connect() prepares the database and resolves to its timestamp units per second; insert(batch) stores a batch of at
 * most ROWS_AT_ONCE rows. After any error the database is prepared anew. A batch is an object of columns, arrays of
 * equal length, with its rows' timestamps: sent twice, it is stored once.
 */

import { say } from "./report.js";

const ROWS_AT_ONCE = 5000; // in one call of insert: TDengine takes statements of up to 1 MB
const RETRY_MS = 500;
const QUICK_MS = 250; // an answer that comes sooner tells that the database could take more at once
const FINISH_MS = 4500; // for what is still kept when the outbox is closed
const [SAY_MS, SAY_TERMINAL_MS] = [5000, 500];
const grouped = (number) => Math.round(number).toLocaleString("en-US");
const rowsOf = (batch) => Object.values(batch)[0].length;

/** What trying again can't mend: a refused login, a table of other columns; one line for the user, exit status. */
export class Refused extends Error {
  constructor(line, status = 1) {
    super(line);
    this.status = status;
  }
}

/** Rows of batches that are kept one behind the other, as batches of at most ROWS_AT_ONCE rows. */
function* partsOf(batches, rows) {
  const columns = Object.keys(batches[0]).map((name) => [name, batches.flatMap((batch) => batch[name])]);
  for (let k = 0; k < rows; k += ROWS_AT_ONCE) {
    yield Object.fromEntries(columns.map(([name, values]) => [name, values.slice(k, k + ROWS_AT_ONCE)]));
  }
}

/** Sends batches in order, one call at a time. */
export class Outbox {
  /**
   * isFault(error): whether connect or insert may fail so; explain(error): a line for the user when trying again can't
   * help, else null; isTooOld(error): whether the database refuses rows because of their age: then the batch is
   * dropped, and counted.
   */
  constructor({ name, server, connect, insert, backlog, isFault, explain, isTooOld }) {
    Object.assign(this, { name, server, connect, insert, backlog, isFault, explain, isTooOld });
    this.kept = []; // batches, oldest first
    this.keptRows = this.batches = this.rows = this.retries = this.droppedRows = this.connects = 0;
    this.unitsPerS = this.failure = null;
    this.isConnected = this.isWaiting = this.isClosed = false;
    this.atOnce = 1; // batches; more of them as long as the database answers quickly
    this.waiters = new Set();
    [this.saidAt, this.saidRows] = [performance.now(), 0];
    this.running = this.run();
  }

  hasRoom(rows) {
    return this.keptRows + rows <= this.backlog;
  }

  /** Keeps a batch until it is confirmed. Refused when there is no going on, RangeError when it doesn't fit. */
  put(batch) {
    this.check();
    const rows = rowsOf(batch);
    if (!this.hasRoom(rows)) throw new RangeError(`${this.keptRows} rows are kept, --backlog is ${this.backlog}`);
    this.kept.push(batch);
    this.keptRows += rows;
    this.wake();
  }

  check() {
    if (this.failure) throw this.failure;
  }

  /** Ends all waits whose condition holds now. */
  wake() {
    for (const waiter of [...this.waiters]) waiter();
  }

  /** Resolves after ms, or when something changes and until() holds. */
  changed(ms, until) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.waiters.delete(look);
        resolve();
      };
      const look = () => until() && done();
      const timer = setTimeout(done, ms);
      this.waiters.add(look);
      look();
    });
  }

  /** Waits, while batches are sent, and reports progress; ends early when until() holds. Refused as put(). */
  async wait(ms, until = () => false) {
    const end = performance.now() + ms;
    do {
      this.check();
      const left = Math.min(end - performance.now(), 1000);
      if (left > 0) await this.changed(left, () => this.failure || until());
      this.report();
    } while (performance.now() < end && !until());
    this.check();
  }

  /** Gives what is kept finishMs to be sent, reports how it ended; the exit status. */
  async close(failure = null, finishMs = FINISH_MS) {
    this.failure ??= failure;
    if (!this.failure) {
      await this.wait(finishMs, () => !this.kept.length).catch(() => {}); // kept in this.failure
    }
    this.isClosed = true;
    this.wake();
    if (this.failure) say(`${this.name}: ${this.failure.message}`);
    if (this.keptRows) say(`${this.name}: ${this.keptRows} rows not sent, or sent without confirmation`);
    process.stdout.write(`sent ${this.rows} rows in ${this.batches} batches\n`);
    return this.failure?.status ?? Number(this.keptRows + this.droppedRows > 0);
  }

  /** Connects, sends the oldest batches, waits a little after a failure; until it is closed. */
  async run() {
    while (!this.isClosed && !this.failure) {
      const count = Math.min(this.atOnce, this.kept.length);
      try {
        if (!this.isConnected) await this.open();
        else if (count) await this.send(this.kept.slice(0, count));
        else await this.changed(1000, () => this.kept.length || this.isClosed); // repeated until something is kept
      } catch (error) {
        if (this.isFault(error)) await this.failed(error, this.isConnected ? count : 0);
        else this.failure = Object.assign(error, { message: error.stack, status: 1 }); // a fault of ours
      }
      this.wake();
    }
  }

  async open() {
    this.unitsPerS = await this.connect();
    if (this.isWaiting) say(`connected to ${this.server}, ${grouped(this.keptRows)} kept rows to send`);
    this.isConnected = true;
    this.isWaiting = false;
    this.connects += 1;
  }

  async send(batches) {
    const started = performance.now();
    const rows = batches.reduce((sum, batch) => sum + rowsOf(batch), 0);
    for (const part of partsOf(batches, rows)) {
      if (this.isClosed) return; // what has been stored of them is stored again by nobody
      await this.insert(part);
    }
    this.discard(batches.length);
    this.batches += batches.length;
    this.rows += rows;
    const most = Math.max(Math.floor(ROWS_AT_ONCE / rowsOf(batches[0])), 1);
    const isQuick = performance.now() - started < QUICK_MS;
    this.atOnce = isQuick ? Math.min(2 * this.atOnce, most) : Math.max(this.atOnce >> 1, 1);
  }

  discard(count) {
    for (const batch of this.kept.splice(0, count)) this.keptRows -= rowsOf(batch);
  }

  async failed(error, count) {
    this.isConnected = false;
    this.atOnce = 1; // which of several it is, is found one by one
    if (count && this.isTooOld(error)) {
      if (count > 1) return;
      const rows = rowsOf(this.kept[0]);
      this.discard(1);
      this.droppedRows += rows;
      say(`${grouped(rows)} rows dropped: older than ${this.server} keeps rows (${error.message})`);
      return;
    }
    const line = this.explain(error);
    if (line) {
      this.failure = new Refused(line);
      return;
    }
    this.retries += 1;
    if (!this.isWaiting) say(`waiting for ${this.server} (${error.message}): retrying, rows are kept`);
    this.isWaiting = true;
    await this.changed(RETRY_MS, () => this.isClosed);
  }

  /** A line that refreshes on a terminal, one every 5 seconds otherwise. */
  report() {
    const isTerminal = process.stderr.isTTY;
    const passedMs = performance.now() - this.saidAt;
    if (passedMs < (isTerminal ? SAY_TERMINAL_MS : SAY_MS)) return;
    const pace = ((this.rows - this.saidRows) / passedMs) * 1000;
    const kept = `${grouped(this.keptRows)} kept, ${this.retries} retries`;
    say(`${grouped(this.rows)} rows sent, ${grouped(pace)} rows/s, ${kept}`, isTerminal ? "" : "\n");
    [this.saidAt, this.saidRows] = [performance.now(), this.rows];
  }
}
