/** What /healthz and the page say of one table: how many rows, how old, what could not be shown, what is wrong. */

const [STALE_MS, STALE_MOST_MS] = [5000, 600_000]; // least and most time without a row after which a table is stale
const RECENT_MS = 60_000; // what could not be shown makes a table incomplete for so long
const PACE_MS = 5000; // the pace is taken over so long
const STEADY_MS = 2500; // rows that come with such pauses come steadily: so they are shown while nobody looks
const MAX_ARRIVALS = 600;
const MAX_GAPS = 20;

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

const rounded = (ms) => (ms === null ? null : Math.round(ms));

/** Counters of one table; ages and lags go by arrival, so that a device's wrong clock does not spoil them. */
export class Counters {
  constructor() {
    this.beginAnew();
    this.polls = this.failedPolls = this.reconnects = this.missedRows = this.unshownValues = 0;
    this.newestMs = this.lagMs = this.error = this.note = this.history = this.rowAt = null;
    this.isWaiting = true; // for the first rows, or for something that only a user can mend
    this.incompleteAt = Number.NEGATIVE_INFINITY; // when a row or a value could not be shown last
    this.gaps = []; // ms that polls found no rows for
    this.polledAt = performance.now();
  }

  /** A poll has come back; true when the one before had failed. */
  succeeded() {
    const again = this.error !== null;
    this.error = null;
    this.polledAt = performance.now();
    this.reconnects += Number(again);
    return again;
  }

  /** A poll has failed; true when that is news. */
  failed(reason) {
    const isNews = reason !== this.error;
    this.error = reason;
    this.failedPolls += 1;
    return isNews;
  }

  /** Rows are shown; newestMs and lagMs: of the newest one with a time near the database's clock, if any. */
  arrived(rows, newestMs = null, lagMs = null) {
    const now = performance.now();
    if (this.rowAt !== null) this.gaps.push(Math.max(this.polledAt - this.rowAt, 0));
    if (this.gaps.length > MAX_GAPS) this.gaps.shift();
    this.arrivals.push([now, this.rows + rows]);
    if (this.arrivals.length > MAX_ARRIVALS) this.arrivals.shift();
    this.rows += rows;
    this.rowAt = now;
    this.isWaiting = false;
    if (newestMs !== null) this.newestMs = Math.max(newestMs, this.newestMs ?? newestMs);
    if (lagMs !== null) this.lagMs = Math.max(lagMs, 0);
  }

  /** Rows count from none on: the table was made, or made anew. */
  beginAnew() {
    this.rows = 0;
    this.arrivals = []; // [when, rows by then]: the pace counts from the first one on
  }

  /** What came up to now were rows of the past: the pace is that of what comes from now on. */
  beginPace() {
    this.arrivals = [];
  }

  /** So many more rows, or values of rows, could not be shown. */
  missed({ rows = 0, values = 0 }) {
    this.missedRows += rows;
    this.unshownValues += values;
    if (rows || values) this.incompleteAt = performance.now();
  }

  status() {
    const now = performance.now();
    if (this.rowAt === null || this.isWaiting) return "waiting";
    // a table whose rows come rarely is not stale after the pause that is usual for it
    const usual = this.gaps.length ? median(this.gaps) : 0;
    if (now - this.rowAt > Math.min(Math.max(5 * usual, STALE_MS), STALE_MOST_MS)) return "stale";
    return now - this.incompleteAt < RECENT_MS ? "incomplete" : "ok";
  }

  rowsPerS() {
    if (!this.arrivals.length) return 0;
    const now = performance.now();
    while (this.arrivals.length > 1 && now - this.arrivals[1][0] > PACE_MS) this.arrivals.shift();
    const isAfterPause = this.arrivals.length > 2 && this.arrivals[1][0] - this.arrivals[0][0] > STEADY_MS;
    const [[first, before], [last]] = [this.arrivals[isAfterPause ? 1 : 0], this.arrivals.at(-1)];
    // to the last arrival, as between two of them there are no rows yet
    const passedS = ((now - last < STEADY_MS ? last : now) - first) / 1000;
    return Math.round(((this.rows - before) / Math.max(passedS, 0.25)) * 10) / 10;
  }

  /** This table's part of /healthz. */
  toJSON() {
    const ageMs = this.rowAt === null ? null : performance.now() - this.rowAt + (this.lagMs ?? 0);
    return {
      status: this.status(),
      source: "poll",
      rows: this.rows,
      rows_per_s: this.rowsPerS(),
      newest: this.newestMs === null ? null : new Date(this.newestMs).toISOString().replace("Z", "+00:00"),
      age_ms: rounded(ageMs),
      lag_ms: rounded(this.lagMs),
      polls: this.polls,
      failed_polls: this.failedPolls,
      reconnects: this.reconnects,
      missed_rows: this.missedRows,
      unshown_values: this.unshownValues,
      history: this.history,
      error: this.error ?? this.note,
    };
  }
}
