/**
 * Which rows of a table were shown, so that each is shown once; and how many are expected to be stored.
 *
 * Rows are told apart by their key. Keys are kept by second of the rows' time. When there are too many, the second that
 * was not touched for longest keeps only its count, whatever its time: a device whose clock is years ahead pushes out
 * nobody. When there are too many of those, they are kept by hour.
 */

export const HOUR = 3600;
export const hourOf = (second) => Math.floor(second / HOUR);
const add = (counts, place, rows) => counts.set(place, (counts.get(place) ?? 0) + rows);

/** The keys of the rows that were shown, and counts of those that are stored but not to be shown. */
export class Shown {
  constructor({ maxRows = 300_000, maxSeconds = 10_000, maxCounted = 100_000 } = {}) {
    Object.assign(this, { maxRows, maxSeconds, maxCounted });
    this.seconds = new Map(); // second: Set of the keys of its rows; the one touched last stands last
    this.counted = new Map(); // second: rows without keys
    this.byHour = new Map(); // hour: rows of which not even the second is known
    this.hours = new Map(); // hour: all rows that are expected in it
    this.rows = 0; // in this.seconds
    this.live = [0, 0]; // seconds [first, end) that are read again and again: their keys are kept
  }

  /** Map of second: how many of the rows have the key of another one, so that only one of those can be shown. */
  alike(rows) {
    const seconds = new Map();
    const known = new Set();
    for (const { second, key } of rows) {
      if (known.has(key)) add(seconds, second, 1);
      known.add(key);
    }
    return seconds;
  }

  /**
   * The rows, {second, key}, that were surely not shown yet, in reversed order; from now on they count as shown.
   *
   * Newest first, as a poll reads them, becomes oldest first, as they are to be put into a Perspective table.
   */
  unseen(rows) {
    const fresh = [];
    let known, before;
    for (const row of rows) {
      if (row.second !== before) {
        before = row.second;
        known = null;
        if (this.isReadable(before)) {
          known = this.seconds.get(before) ?? new Set();
          this.seconds.delete(before);
          this.seconds.set(before, known);
        }
      }
      if (known === null || known.has(row.key)) continue;
      known.add(row.key);
      fresh.push(row);
      add(this.hours, hourOf(before), 1);
    }
    this.rows += fresh.length;
    this.compact();
    return fresh.reverse();
  }

  /** Whether a row of this second that was not shown can be told from those that were: all keys are known. */
  isReadable(second) {
    return !this.counted.get(second) && !this.byHour.get(hourOf(second));
  }

  /** These rows could not be shown: they don't count as shown any more. */
  withdraw(rows) {
    for (const { second, key } of rows) this.remove(second, [key]);
  }

  /** Rows that are gone. */
  remove(second, keys) {
    const known = this.seconds.get(second);
    for (const key of keys) {
      if (!known?.delete(key)) continue;
      this.rows -= 1;
      add(this.hours, hourOf(second), -1);
    }
  }

  /** Rows that should be stored with a time in this second, as far as it is known by second. */
  expected(second) {
    return (this.seconds.get(second)?.size ?? 0) + (this.counted.get(second) ?? 0);
  }

  /** So many more rows (or fewer) are stored in this second, without being shown. */
  count(second, rows) {
    add(this.counted, second, rows);
    add(this.hours, hourOf(second), rows);
  }

  countHour(hour, rows) {
    add(this.byHour, hour, rows);
    add(this.hours, hour, rows);
  }

  /** Keeps to the bounds: keys become counts, counts by second become counts by hour. */
  compact() {
    const [first, end] = this.live;
    if (this.rows > this.maxRows || this.seconds.size > this.maxSeconds) {
      for (const [second, { size }] of this.seconds) {
        if (this.rows <= this.maxRows * 0.9 && this.seconds.size <= this.maxSeconds * 0.9) break;
        if (second >= first && second < end) continue;
        this.seconds.delete(second);
        this.rows -= size;
        if (size) add(this.counted, second, size);
      }
    }
    if (this.counted.size <= this.maxCounted) return;
    for (const [second, rows] of this.counted) {
      if (this.counted.size <= this.maxCounted * 0.9) break;
      if (second >= hourOf(first) * HOUR && second < end + HOUR) continue; // or what comes next could not be read
      this.counted.delete(second);
      add(this.byHour, hourOf(second), rows);
    }
  }
}
