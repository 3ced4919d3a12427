/** Which seconds hold more rows, or fewer, than were shown: by comparing counts, by hour first and then by second. */

import { HOUR, hourOf } from "./shown.js";

const QUERY = 100; // what a query costs, as so many counts of a second
const SWEEP = 3 * (HOUR + QUERY); // what a sweep may cost: three hours that have rows in each second, or more hours

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
    this.hours = new Map(); // hour: how many rows more, or fewer, are stored, of those whose seconds are not known
  }

  /**
   * Fills more, fewer and hours; sweep: its number, when also counts are looked at whose sum is right.
   *
   * A sum is right, too, when one row came late and another is gone.
   */
  async run(sweep = null) {
    const [first, end] = this.live;
    const [differ, rowsOfSides] = [new Set(), []];
    for (const bounds of [
      [null, first],
      [end, null],
    ]) {
      const expected = this.expected(...bounds);
      const rows = await this.source.count(...bounds);
      rowsOfSides.push(rows);
      const isRight = rows === [...expected.values()].reduce((all, each) => all + each, 0);
      if (isRight && (sweep === null || !rows)) continue;
      const stored = await this.source.counts(HOUR, ...bounds);
      for (const hour of [...stored.keys(), ...expected.keys()])
        if ((stored.get(hour) ?? 0) !== (expected.get(hour) ?? 0)) differ.add(hour);
    }
    if (sweep !== null) for (const hour of this.swept(sweep)) differ.add(hour);
    for (const hour of [...differ].sort((a, b) => b - a)) await this.compareSeconds(hour, rowsOfSides);
  }

  /** Hours to be compared by second: the newest, as many as a sweep may cost, and one of the others in turn. */
  swept(sweep) {
    const { hours: rows, byHour } = this.shown;
    const hours = [...rows.keys()].filter((hour) => rows.get(hour) > (byHour.get(hour) ?? 0)).sort((a, b) => b - a);
    let [newest, cost] = [0, 0];
    for (; newest < hours.length; newest++) {
      cost += Math.min(rows.get(hours[newest]), HOUR) + QUERY;
      if (cost > SWEEP) break;
    }
    const [swept, others] = [hours.slice(0, newest), hours.slice(newest)];
    if (others.length) swept.push(others[sweep % others.length]);
    return swept;
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

  /** The whole hour, outside the live seconds: only all of it tells how many of unknown second are stored. */
  async compareSeconds(hour, rowsOfSides) {
    const { shown } = this;
    const [first, end] = [hour * HOUR, (hour + 1) * HOUR];
    const parts = [
      [first, Math.min(end, this.live[0])],
      [Math.max(first, this.live[1]), end],
    ];
    const [known, stored] = [new Map(), new Map()];
    let left = shown.byHour.get(hour) ?? 0;
    const isUnknown = left > 0;
    for (const [from, to] of parts)
      for (let second = from; second < to; second++) known.set(second, shown.expected(second));
    for (const [k, [from, to]] of parts.entries()) {
      if (!rowsOfSides[k] || from >= to) continue;
      for (const [second, rows] of await this.source.counts(1, from, to)) stored.set(second, rows);
    }
    for (const [second, expected] of known) {
      const rows = stored.get(second) ?? 0;
      // whatever is here is among the rows known by hour only
      if (isUnknown && !shown.seconds.has(second)) left -= rows - expected;
      else if (rows > expected) this.more.set(second, { stored: rows, more: rows - expected });
      else if (rows < expected) this.fewer.set(second, rows);
    }
    if (left) this.hours.set(hour, -left);
  }

  /**
   * [Map of second to rows to be read, of those that were not shown the newest `room`, Map of second to others].
   *
   * Those with a time before second `began` leave room for the rows that are `held`, others take their place.
   */
  fit(room, began, held) {
    const [sizes, left] = [new Map(), new Map()];
    let free = room;
    for (const [second, { stored, more: counted }] of [...this.more].sort(([a], [b]) => b - a)) {
      const more = Math.min(counted, stored - this.shown.expected(second)); // a tick may have shown some meanwhile
      if (more <= 0) continue;
      const most = Math.max(second >= began ? free : free - held, 0);
      const fit = this.shown.isReadable(second) ? Math.min(more, most) : 0;
      free -= fit;
      if (fit) sizes.set(second, fit === more ? stored : fit + this.shown.expected(second)); // the newest may be shown
      if (fit < more) left.set(second, more - fit);
    }
    return [sizes, left];
  }

  /** Counts so many rows as stored without being shown, at most those that are; returns how many. */
  count(second, most) {
    // less than 0: what was read holds rows that came, while others are gone, after they were counted
    const rows = Math.max(Math.min(most, this.more.get(second).stored - this.shown.expected(second)), 0);
    if (rows) this.shown.count(second, rows);
    return rows;
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
