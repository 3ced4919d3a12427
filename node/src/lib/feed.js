/**
 * Which rows to show next: those of the last second on each tick, all others by comparing counts once a second.
 *
 * The counts of the stored rows by hour, then by second, are compared with what was shown; the rows of each second that
 * has more are read. So rows that come late, or from a clock that is ahead, or that were stored before the start
 * (--history) are all found in the same way. What does not fit the limit is counted as missed.
 */

import { toArrow } from "./columns.js";
import { Counters } from "./health.js";
import { Comparison, rangesOf } from "./late.js";
import { log } from "./report.js";
import { TDengineError } from "./rest.js";
import { HOUR, Shown } from "./shown.js";
import { floorDivide, newestBefore } from "./times.js";

const WINDOW_S = 1; // rows this far around the database's clock are read by the ticks, all others after comparing
const LATE_MS = 10_000; // after rows came late within the window, ticks read the whole window for so long
const [DESCRIBE_MS, RETRY_MS] = [5000, 500];
const SWEEP_MS = 2000; // counts are compared at least so often also where their sum is right
const KNOWN_BY_SECOND_S = 20_000; // of the rows that are stored before the start; older ones are known by hour
const CELLS_AT_ONCE = 200_000; // rows times columns that one query of the past reads
// no such database or table, no access, a system table: waits for the user
const MASKED = ["0x0388", "0x2603", "0x0357", "0x0351", "0x2669"];
const nowS = () => Date.now() / 1000;

/** Feeds one Perspective table with the rows of one table of a source, each once. */
export class Feed {
  /**
   * source: describes and counts a table (tdengine.js); read(source, where, limit): its newest rows; show(arrow): puts
   * rows into the Perspective table. historyS: seconds before the start from which on rows are shown.
   */
  constructor({ source, read, show, limit, historyS = 0, isResumed = false }) {
    Object.assign(this, { source, read, show, limit, historyS, isResumed, title: source.title });
    this.counters = new Counters();
    this.shown = this.start = this.began = null; // seconds: rows from `start` on are to be shown; began: ours
    this.offsetS = 0; // the database's clock minus ours
    this.newest = null; // time of the newest row near the database's clock, in the table's units
    this.madeAt = this.succeededAt = performance.now(); // succeeded: start of the last tick that did
    this.lateAt = Number.NEGATIVE_INFINITY;
    this.describedAt = this.sweptAt = this.sweeps = this.retryAt = this.held = 0;
    this.pace = 0; // rows/s that the last tick brought
    this.isUncompared = true; // a tick has succeeded since the last comparison, or there was none
    this.isFull = false; // a tick since the last comparison came back with `limit` new rows
    this.isLoading = true; // rows of the past, until the first comparison is done
    this.less = new Map(); // seconds in which fewer rows were stored than shown, when compared last
    this.turn = Promise.resolve(); // only one of tick and comparison changes what is hosted
  }

  /** One poll; what fails is counted, reported once, and tried again after RETRY_MS. */
  async tick() {
    const started = performance.now();
    if (started < this.retryAt) return;
    this.counters.polls += 1;
    await this.reported(async () => {
      if (this.shown === null) await this.begin();
      const { shown } = this;
      const rows = await this.read(this.source, this.window(), this.limit);
      const fresh = shown.unseen(rows);
      this.isFull ||= fresh.length > 0 && fresh.length === this.limit;
      await this.put(fresh, shown);
      this.pace = (1000 * fresh.length) / Math.max(started - this.succeededAt, 10);
      this.succeededAt = started;
      this.isUncompared = true;
      this.succeeded();
    });
  }

  succeeded() {
    if (this.counters.succeeded()) log.info(`${this.source}: the database answers again`);
  }

  /** The condition of a tick: the last second, or back to the last tick that succeeded; not what was shown. */
  window() {
    const { time, unitsPerS } = this.source;
    const units = (second) => BigInt(Math.floor(second * 1000)) * (unitsPerS / 1000n);
    const now = performance.now();
    const back = nowS() + this.offsetS - WINDOW_S - (now - this.succeededAt) / 1000;
    const reach = units(Math.max(back, this.start));
    const first = this.newest > reach && now - this.lateAt > LATE_MS ? this.newest : reach;
    const end = units(nowS() + this.offsetS + WINDOW_S);
    this.shown.live = [floorDivide(reach, unitsPerS) - WINDOW_S, floorDivide(end, unitsPerS) + 1];
    return `${time} >= ${first} AND ${time} < ${end}`;
  }

  /** Where the rows to be shown begin, and what is stored before that: those are not to be shown. */
  async begin() {
    await this.source.describe();
    this.describedAt = performance.now();
    const now = await this.source.now();
    this.offsetS = now - nowS();
    this.began = Math.floor(now - WINDOW_S - (performance.now() - this.madeAt) / 1000); // since then rows have been waited for
    this.start ??= this.began - this.historyS;
    this.before = await this.source.counts(1, this.began, this.began + WINDOW_S); // stored then, of the second before
    const shown = new Shown();
    const knownFrom = this.start - KNOWN_BY_SECOND_S;
    for (const [hour, rows] of await this.source.counts(HOUR, null, knownFrom)) shown.countHour(hour, rows);
    for (const [second, rows] of await this.source.counts(1, knownFrom, this.start)) shown.count(second, rows);
    Object.assign(this, { shown, newest: null, isLoading: true });
    const before = [...shown.hours.values()].some((rows) => rows);
    const hint = this.source.dataset ? "is its producer running?" : "--history shows older ones";
    const note = before ? `has rows, but none since the start: ${hint}` : "has no rows yet";
    this.counters.note = `${this.source} ${note}`;
  }

  /** Shows rows that are not shown yet, oldest first; when that fails they don't count as shown. */
  put(rows, shown) {
    const done = this.turn.then(() => this.putNow(rows, shown));
    this.turn = done.catch(() => {});
    return done;
  }

  async putNow(rows, shown) {
    if (!rows.length || shown !== this.shown) return; // or the table has changed meanwhile
    const { held } = this;
    let values;
    this.held = Math.min(held + rows.length, this.limit); // the past must not take their place
    try {
      const [arrow, unshown] = toArrow(rows, this.source.columns);
      values = unshown;
      await this.show(arrow);
    } catch (error) {
      shown.withdraw(rows);
      this.held = held;
      throw error;
    }
    this.counters.missed({ values });
    this.counters.note = null;
    this.counters.arrived(rows.length, ...this.newestOf(rows));
  }

  /** [time, lag] in ms of the newest of the rows with a time near the database's clock; lag only for a fresh one. */
  newestOf(rows) {
    const nowMs = (nowS() + this.offsetS) * 1000;
    const newest = newestBefore(rows, nowMs + WINDOW_S * 1000, this.source.unitsPerS);
    if (!newest) return [];
    const lagMs = nowMs - newest.ms;
    if (lagMs >= WINDOW_S * 1000 + performance.now() - this.succeededAt) return [newest.ms];
    if (this.newest === null || newest.time > this.newest) this.newest = newest.time;
    return [newest.ms, lagMs];
  }

  /** Finds, once, what the ticks did not: shows it, or counts it as missed; notices rows that are gone. */
  async compare() {
    await this.reported(async () => {
      const { shown } = this;
      if (shown === null || !this.isUncompared) return;
      this.isUncompared = false;
      this.offsetS = (await this.source.now()) - nowS();
      const now = Math.floor(nowS() + this.offsetS);
      const started = performance.now();
      const comparison = new Comparison(this.source, shown, [now - WINDOW_S, now + WINDOW_S + 1]);
      const isSweep = started - this.sweptAt > SWEEP_MS;
      await comparison.run(isSweep ? this.sweeps : null);
      if (shown !== this.shown) return;
      if (isSweep) {
        this.sweptAt = started + 10 * (performance.now() - started); // rarely where it takes long
        this.sweeps += 1;
      }
      for (const [hour, rows] of comparison.hours) {
        shown.countHour(hour, rows);
        this.counters.missed({ rows: Math.max(rows, 0) });
      }
      await this.showMore(comparison, shown);
      if (shown !== this.shown) return;
      await this.forgetFewer(comparison.fewer, shown);
      if (shown !== this.shown) return;
      if (this.isLoading && comparison.more.size) this.counters.beginPace();
      this.isLoading = false;
      this.counters.history = null;
      this.succeeded();
    });
  }

  /** Reads and shows the rows that were not shown, the newest that fit; all others are missed. */
  async showMore(comparison, shown) {
    const [room, held] = [this.isFull ? 0 : this.limit, this.isLoading ? this.held : 0];
    this.isFull = false;
    const [sizes, left] = comparison.fit(room, this.began + WINDOW_S, held);
    const alike = new Map(); // second: rows that nothing tells from others
    if ([...sizes.keys()].some((second) => second >= this.began)) this.lateAt = performance.now();
    const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
    if (this.isLoading && total > this.limit / 10) {
      this.counters.history = { loaded: 0, of: total };
      log.info(`${this.source}: loading ${total} stored rows`);
    }
    for (const [first, end, size] of rangesOf(sizes, CELLS_AT_ONCE / this.source.columns.length)) {
      const found = await this.read(this.source, this.source.between(first, end), size);
      if (shown !== this.shown) return;
      for (const [second, rows] of shown.alike(found)) alike.set(second, rows);
      await this.put(shown.unseen(found), shown);
      if (this.counters.history) this.counters.history.loaded += size;
    }
    if (shown !== this.shown) return;
    for (const [second, rows] of left) this.leaveOut(second, comparison.count(second, rows));
    for (const [second, rows] of alike) this.counters.missed({ rows: comparison.count(second, rows) });
  }

  /** Rows that don't fit the limit: missed, unless stored before this server's start and so just not wanted. */
  leaveOut(second, rows) {
    let older = 0;
    if (this.isLoading && second >= this.start && second < this.began + WINDOW_S) {
      older = second < this.began ? rows : Math.min(rows, this.before.get(second) ?? 0);
      if (this.isResumed) this.counters.rows += older; // shown before the engine was replaced
    }
    this.counters.missed({ rows: rows - older });
  }

  /** Rows that are gone, when a second comparison says so, too: a count may be a little behind what was shown. */
  async forgetFewer(fewer, shown) {
    for (const second of [...fewer.keys()].filter((each) => this.less.has(each)).slice(0, 1000)) {
      const stored = fewer.get(second);
      const gone = new Set(shown.seconds.get(second));
      if (gone.size && stored) {
        const found = await this.read(this.source, this.source.between(second, second + 1), this.limit);
        if (shown !== this.shown) return;
        if (found.length === this.limit) continue;
        for (const { key } of found) gone.delete(key);
      }
      shown.remove(second, gone);
      const [counted, expected] = [shown.counted.get(second) ?? 0, shown.expected(second)];
      if (counted && stored < expected) shown.count(second, -Math.min(counted, expected - stored));
    }
    this.less = fewer;
  }

  /** Counts and reports what TDengine answers; it is tried again. */
  async reported(work) {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof TDengineError)) throw error;
      const reason = this.source.explain(error);
      this.counters.isWaiting ||= MASKED.includes(error.code);
      this.retryAt = performance.now() + RETRY_MS;
      if (this.counters.failed(reason)) log.warning(`${this.source}: ${reason}`);
      if (error.code === "0x2602") this.describedAt = 0; // no such column: it was described before a change
    }
  }

  /** Begins anew when the table's columns changed, or it was dropped and made again; drop(): what is hosted. */
  async refresh(drop) {
    if (this.shown === null || performance.now() - this.describedAt < DESCRIBE_MS) return;
    await this.reported(async () => {
      this.describedAt = performance.now();
      if (!(await this.source.describe())) return;
      log.info(`${this.source}: its columns have changed, or it was made anew: loading it again`);
      this.turn = this.turn.then(async () => {
        Object.assign(this, { shown: null, held: 0, isResumed: true });
        this.counters.beginAnew();
        await drop();
      });
      await this.turn;
    });
  }

  /** This table's part of /healthz. */
  health() {
    return { ...this.counters.toJSON(), ...this.source.health(), held: this.held };
  }
}
