/** Which seconds hold more rows, or fewer, than were shown: by comparing counts, by hour first and then by second. */

import { HOUR, hourOf } from "./shown.js";

const SWEPT_HOURS = 3; // the newest, whose counts by second are compared also when those by hour are right

/**
 * One comparison of what a source stores with what was shown, outside the `live` seconds [first, end].
 *
 * In those, rows come and are read just now; each is compared when it has left them. Counts of what was shown are taken
 * before the source is queried: rows that are shown meanwhile must not pass for rows that are gone.
 */
export class Comparison {
  constructor(source, shown, live) {
    Object.assign(this, { source, shown, live });
    this.more = new Map(); // second: {stored, more: how many of them were not shown}
    this.fewer = new Map(); // second: stored
    this.left = new Map(); // hour: rows whose second is not known, and that were not found stored yet
  }

  /** Fills more, fewer and hours; isSweep: look at the newest hours by second, even if their counts are right. */
  async run(isSweep) {
    const [first, end] = this.live;
    const sides = [
      [null, first],
      [end, null],
    ];
    const differ = [];
    for (const bounds of sides) differ.push(await this.hoursThatDiffer(bounds, isSweep));
    const isParted = hourOf(first) === hourOf(end) && differ.some((hours) => hours.has(hourOf(end)));
    for (const [k, [begin, until]] of sides.entries()) {
      if (isParted) differ[k].add(hourOf(end)); // an hour is compared as a whole
      for (const hour of [...differ[k]].sort((a, b) => b - a)) {
        const since = Math.max(hour * HOUR, begin ?? Number.NEGATIVE_INFINITY);
        const before = Math.min((hour + 1) * HOUR, until ?? Number.POSITIVE_INFINITY);
        if (since < before) await this.compareSeconds(hour, since, before);
      }
    }
  }

  /** Set of the hours on one side of the live seconds whose counts are not right; with a sweep the newest, too. */
  async hoursThatDiffer(bounds, isSweep) {
    const expected = this.expected(...bounds);
    const sum = [...expected.values()].reduce((all, rows) => all + rows, 0);
    const rows = await this.source.count(...bounds);
    const differ = new Set();
    if (rows !== sum) {
      const stored = await this.source.counts(HOUR, ...bounds);
      for (const hour of [...stored.keys(), ...expected.keys()])
        if ((stored.get(hour) ?? 0) !== (expected.get(hour) ?? 0)) differ.add(hour);
    }
    if (isSweep && (rows || sum)) {
      // an hour's count is right, too, when one row came late and another is gone
      const known = [...new Set([...this.shown.seconds.keys()].map(hourOf))].sort((a, b) => b - a);
      for (const hour of known.slice(0, SWEPT_HOURS)) differ.add(hour);
    }
    return differ;
  }

  /** Map of hour to rows expected in it with first <= second < end; one of both is null. */
  expected(first, end) {
    const edge = first ?? end;
    const hours = new Map();
    for (const [hour, rows] of this.shown.hours) {
      let expected = rows;
      if (hour === hourOf(edge)) {
        let behind = 0; // of the hour at the edge only a part
        for (let second = edge; second < (hour + 1) * HOUR; second++) behind += this.shown.expected(second);
        expected = first === null ? rows - behind : behind;
      } else if (hour < hourOf(edge) !== (first === null)) continue;
      if (expected) hours.set(hour, expected);
    }
    return hours;
  }

  async compareSeconds(hour, first, end) {
    const { shown } = this;
    const known = new Map();
    for (let second = first; second < end; second++) {
      const rows = shown.expected(second);
      if (rows) known.set(second, rows);
    }
    const isUnknown = (shown.byHour.get(hour) ?? 0) > 0;
    let left = this.left.get(hour) ?? shown.byHour.get(hour) ?? 0; // an hour may be compared in two parts
    const stored = await this.source.counts(1, first, end);
    for (const second of new Set([...stored.keys(), ...known.keys()])) {
      const [rows, expected] = [stored.get(second) ?? 0, known.get(second) ?? 0];
      // whatever is here is among the rows known by hour only
      if (isUnknown && !shown.seconds.has(second)) left -= rows - expected;
      else if (rows > expected) this.more.set(second, { stored: rows, more: rows - expected });
      else if (rows < expected) this.fewer.set(second, rows);
    }
    this.left.set(hour, left);
  }

  /** Map of hour to how many rows more, or fewer, are stored, of those whose seconds are not known. */
  hours() {
    return new Map([...this.left].filter(([, left]) => left).map(([hour, left]) => [hour, -left]));
  }

  /** [Map of second to rows to be read, of those that were not shown the newest `room`, Map of second to others]. */
  fit(room) {
    const [sizes, left] = [new Map(), new Map()];
    let free = Math.max(room, 0);
    for (const [second, { stored, more: counted }] of [...this.more].sort(([a], [b]) => b - a)) {
      const more = Math.min(counted, stored - this.shown.expected(second)); // a tick may have shown some meanwhile
      if (more <= 0) continue;
      const fit = this.shown.isReadable(second) ? Math.min(more, free) : 0;
      free -= fit;
      if (fit) sizes.set(second, fit === more ? stored : fit);
      if (fit < more) left.set(second, more - fit);
    }
    return [sizes, left];
  }
}

/**
 * [[first, end, rows]] of a Map of second to rows: seconds that are read together, at most `cells` rows at once.
 *
 * Oldest first, but the newest of all at the beginning: a Perspective table drops what was put into it first, so the
 * past goes in from old to new, and only the rows that make the page show something at once come before.
 */
export function rangesOf(sizes, cells) {
  const most = Math.max(cells, 1000);
  const ranges = [];
  for (const [second, size] of [...sizes].sort(([a], [b]) => a - b)) {
    const last = ranges.at(-1);
    if (last?.[1] === second && last[2] + size <= most) {
      last[1] += 1;
      last[2] += size;
    } else ranges.push([second, second + 1, size]);
  }
  return [...ranges.slice(-1), ...ranges.slice(0, -1)];
}
