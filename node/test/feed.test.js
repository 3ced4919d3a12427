/** Which rows a feed shows, for any mixture of clocks: shown once, or counted as missed. */
import assert from "node:assert";
import test from "node:test";
import * as arrow from "@uwdata/flechette";
import { columnOf } from "../src/lib/columns.js";
import { Feed } from "../src/lib/feed.js";
import { Comparison } from "../src/lib/late.js";
import { Random } from "../src/lib/random.js";
import { setLevel } from "../src/lib/report.js";
import { TDengineError } from "../src/lib/rest.js";
import { HOUR, hourOf, Shown } from "../src/lib/shown.js";
import { floorDivide } from "../src/lib/times.js";

const UNITS = 1000;
const YEAR_S = 365 * 86_400;
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 32));
const PROGRAMS = 30;
setLevel("error"); // not that the source is away

/** A source whose rows are in a Map, and whose clock goes only when it is told to. */
class MemorySource {
  constructor() {
    Object.assign(this, { title: "memory", time: "ts", unitsPerS: BigInt(UNITS), dataset: null });
    this.columns = [columnOf("ts", "TIMESTAMP", "ms"), columnOf("device", "NCHAR(20)", "ms")];
    this.stored = new Map(); // key: {time, device}
    this.used = new Set(); // keys: one that was deleted does not come again, or it would rightly be shown again
    this.clock = 1_800_000_000;
    this.isAway = false;
  }

  toString = () => "memory";

  check() {
    if (this.isAway) throw new TDengineError("", "away");
  }

  async describe() {
    this.check();
    return false;
  }

  async now() {
    this.check();
    return this.clock;
  }

  between = (first, end) => [first === null ? null : first * UNITS, end === null ? null : end * UNITS];

  matching([first, end]) {
    this.check();
    return [...this.stored.values()].filter(
      ({ time }) => (first === null || time >= first) && (end === null || time < end),
    );
  }

  /** where: of between(), or a tick's: "ts >= 1 AND ts < 2". */
  async read(where, limit) {
    const bounds = typeof where === "string" ? where.match(/\d+/g).map(Number) : where;
    await Promise.resolve();
    const found = this.matching(bounds).sort((a, b) => b.time - a.time || (a.device < b.device ? 1 : -1));
    return found.slice(0, limit).map(({ time, device }) => {
      return {
        time: BigInt(time),
        second: floorDivide(BigInt(time), 1000n),
        key: `${time} ${device}`,
        values: [time, device],
      };
    });
  }

  async count(first = null, end = null) {
    return this.matching(this.between(first, end)).length;
  }

  async counts(step, first = null, end = null) {
    const counts = new Map();
    for (const { time } of this.matching(this.between(first, end))) {
      const place = Math.floor(time / UNITS / step);
      counts.set(place, (counts.get(place) ?? 0) + 1);
    }
    return counts;
  }

  explain = ({ message }) => message;

  /** Keys of the rows that are new, `step` ms apart. */
  insert(device, offsetS, rows, step = 1) {
    const now = Math.floor((this.clock + offsetS) * UNITS);
    const times = Array.from({ length: rows }, (_, k) => now - k * step);
    const keys = times.map((time) => [`${time} ${device}`, { time, device }]);
    const fresh = keys.filter(([key]) => !this.used.has(key));
    for (const [key, row] of fresh) {
      this.used.add(key);
      this.stored.set(key, row);
    }
    return fresh.map(([key]) => key);
  }
}

/** A feed on a MemorySource; `shown` counts how often each row was shown. */
class Site {
  constructor(limit, bounds = {}, historyS = 0) {
    this.source = new MemorySource();
    this.shown = new Map();
    this.bounds = bounds;
    const read = (source, where, most) => source.read(where, most);
    this.feed = new Feed({ source: this.source, read, show: (bytes) => this.show(bytes), limit, historyS });
  }

  async show(bytes) {
    await Promise.resolve();
    const { ts, device } = arrow.tableFromIPC(bytes).toColumns();
    for (const [k, time] of [...ts].entries()) {
      const key = `${Number(time)} ${device[k]}`;
      this.shown.set(key, (this.shown.get(key) ?? 0) + 1);
    }
  }

  async tick() {
    this.feed.retryAt = 0;
    this.feed.sweptAt = Number.NEGATIVE_INFINITY;
    await this.feed.tick();
    if (this.feed.shown) Object.assign(this.feed.shown, this.bounds);
  }

  async pass(seconds) {
    this.source.clock += seconds;
    await this.feed.compare(); // which also reads the clock
    await this.tick();
  }

  async settle() {
    this.source.isAway = false;
    for (let k = 0; k < 4; k++) await this.pass(2);
  }
}

const DEVICES = [
  ["now", 0],
  ["late", -7],
  ["hour ahead", 3600],
  ["hour behind", -3600],
  ["soon", 0.6],
];

/** A random program of inserts, pauses and outages; returns the site, keys that were sent and those deleted. */
async function run(random, { limit, deletes = false, bounds }) {
  const site = new Site(limit, bounds);
  site.source.insert("old", -5000, 20);
  site.source.insert("older", -YEAR_S, 20);
  await site.tick();
  await site.pass(1);
  const [sent, deleted] = [new Set(), new Set()];
  for (let steps = random.integer(0, 40); steps > 0; steps--) {
    const what = random.choice([
      "insert",
      "insert",
      "pass",
      "pass",
      "together",
      "away",
      ...(deletes ? ["delete"] : []),
    ]);
    if (what === "insert") {
      const far = [random.choice(["a", "b", "c"]), random.integer(-2 * YEAR_S, 2 * YEAR_S)];
      const [device, offset] = random.next() < 0.7 ? random.choice(DEVICES) : far;
      for (const key of site.source.insert(device, offset, random.integer(1, 40))) sent.add(key);
    } else if (what === "pass") await site.pass(random.uniform(0.05, 4));
    else if (what === "together") await Promise.all([site.feed.compare(), site.tick(), site.tick()]);
    else if (what === "away") site.source.isAway = random.next() < 0.5;
    else {
      for (const key of [...site.source.stored.keys()].filter(() => random.next() < 0.2)) {
        site.source.stored.delete(key);
        deleted.add(key);
      }
    }
  }
  await site.settle();
  return { site, sent, deleted };
}

const secondOf = (key) => Math.floor(Number(key.split(" ")[0]) / UNITS);
const twice = ({ shown }) => [...shown].filter(([, count]) => count > 1);

test(`every row is shown once or counted as missed (SEED=${SEED})`, async () => {
  const random = new Random(SEED);
  for (let k = 0; k < PROGRAMS; k++) {
    const { site, sent } = await run(random, { limit: random.choice([5, 60, 10_000]) });
    assert.deepStrictEqual(twice(site), [], `program ${k}`);
    assert.ok(
      [...site.shown.keys()].every((key) => sent.has(key)),
      "only what came after the start",
    );
    const unshown = [...sent].filter((key) => !site.shown.has(key));
    const { missedRows, rows } = site.feed.counters;
    assert.deepStrictEqual([missedRows, rows], [unshown.length, site.shown.size], `program ${k}`);
  }
});

test(`with rows that are deleted, none is shown twice and none forgotten (SEED=${SEED})`, async () => {
  const random = new Random(SEED + 1);
  for (let k = 0; k < PROGRAMS; k++) {
    const { site, sent, deleted } = await run(random, { limit: random.choice([60, 10_000]), deletes: true });
    assert.deepStrictEqual(twice(site), [], `program ${k}`);
    const hidden = new Map(); // second: rows that were deleted; as many may have come unseen
    for (const key of deleted) hidden.set(secondOf(key), (hidden.get(secondOf(key)) ?? 0) + 1);
    let least = 0;
    for (const key of [...sent].filter((each) => site.source.stored.has(each) && !site.shown.has(each))) {
      const left = hidden.get(secondOf(key)) ?? 0;
      if (left) hidden.set(secondOf(key), left - 1);
      else least += 1;
    }
    assert.ok(site.feed.counters.missedRows >= least, `program ${k}`);
  }
});

test("none is missed when one is gone before the others that came since are counted", async () => {
  const site = new Site(60);
  await site.tick();
  await site.pass(1.5);
  const [gone] = site.source.insert("a", 0, 15);
  await site.pass(0.5);
  site.source.stored.delete(gone);
  for (const [device, offsetS, rows, step] of [
    ["a", 0, 8, 1],
    ["a", 0.6, 22, 7],
    ["b", 0, 32, 7],
  ])
    site.source.insert(device, offsetS, rows, step);
  for (let passes = 4; passes > 0; passes--) await site.pass(2);
  assert.deepStrictEqual([site.feed.counters.missedRows, site.shown.size], [0, 77]);
});

for (const [rows, gone] of [
  [3, 0],
  [3, 6],
  [3, 7],
  [4000, 6],
  [4000, 7],
])
  test(`a late row is found while one of hour ${gone} is deleted (${rows} rows an hour)`, async () => {
    const site = new Site(100_000);
    await site.tick();
    const hours = Array.from({ length: 8 }, (_, k) => site.source.insert("a", -3600 * k - 60, rows, 500));
    await site.pass(2);
    const [late] = site.source.insert("b", -3600 * 7 - 60, 1);
    site.source.stored.delete(hours[gone].at(-1));
    // of the hour itself when its turn comes
    for (let passes = rows > HOUR && gone === 7 ? 6 : 2; passes > 0; passes--) await site.pass(2);
    assert.ok(site.shown.has(late));
  });

test(`a feed that remembers little shows none twice and counts the others (SEED=${SEED})`, async () => {
  const random = new Random(SEED + 2);
  for (let k = 0; k < PROGRAMS; k++) {
    const { site, sent } = await run(random, { limit: 10_000, bounds: { maxRows: 30, maxSeconds: 5, maxCounted: 5 } });
    assert.deepStrictEqual(twice(site), [], `program ${k}`);
    assert.strictEqual(
      site.feed.counters.missedRows,
      [...sent].filter((key) => !site.shown.has(key)).length,
      `program ${k}`,
    );
  }
});

test("rows that could not be put into the engine do not count as shown", async () => {
  const site = new Site(100);
  await site.tick();
  const show = site.feed.show;
  site.feed.show = async () => {
    throw new TDengineError("", "the engine is away");
  };
  site.source.insert("now", 0, 3);
  await site.tick();
  assert.strictEqual(site.feed.counters.rows, 0);
  site.feed.show = show;
  await site.tick();
  await site.settle();
  assert.strictEqual(site.shown.size, 3);
});

test("of a second that a tick showed a part of, the rest is loaded as far as it fits", async () => {
  const started = performance.now();
  const site = new Site(1200, {}, 3600);
  site.source.clock += 0.6;
  site.source.insert("a", 0, 3000);
  await site.tick();
  const tookMs = performance.now() - started; // rows of each millisecond, too
  assert.ok(site.feed.held > 900 && site.feed.held < 1100 + tookMs, `${site.feed.held}`);
  await site.pass(2);
  await site.pass(2);
  assert.deepStrictEqual([site.shown.size, site.feed.held, site.feed.counters.missedRows], [1200, 1200, 0]);
});

for (const historyS of [0, 3600])
  test(`rows that come while the past is not loaded yet fit as all that come later, with a history of ${historyS} s`, async () => {
    const site = new Site(40, {}, historyS);
    site.source.insert("a", -300, 60);
    await site.tick();
    for (let k = 0; k < 2; k++) {
      site.source.clock += 2;
      site.feed.offsetS += 2; // as if as many seconds had been waited for
      site.source.insert("a", 0, 20);
      await site.tick();
    }
    const late = site.source.insert("b", -1.5, 20);
    await site.pass(3);
    await site.pass(3);
    assert.deepStrictEqual([site.feed.held, site.feed.counters.missedRows], [40, 0]);
    assert.ok(late.every((key) => site.shown.get(key) === 1));
  });

test("rows that nothing tells apart are counted as missed, once", async () => {
  const [site, found] = [new Site(1000, {}, 600), []];
  const { read } = site.feed;
  site.feed.read = async (...of) => (await read(...of)).map((row) => ({ ...row, key: String(row.time) }));
  for (const device of "ab") site.source.insert(device, -300, 20);
  await site.tick();
  for (let k = 0; k < 3; k++) {
    for (const device of "ab") site.source.insert(device, 0, 10, 7);
    for (let pause = 0; pause < 3; pause++) await site.pass(2);
    found.push([site.shown.size, site.feed.counters.missedRows]);
  }
  assert.deepStrictEqual(
    found,
    [30, 40, 50].map((rows) => [rows, rows]),
  );
});

test("rows of the past are no pace", async () => {
  const site = new Site(10_000, {}, 600);
  site.source.insert("a", -60, 5000);
  await site.tick();
  await site.pass(1);
  assert.deepStrictEqual([site.shown.size, site.feed.counters.toJSON().rows_per_s], [5000, 0]);
  for (let k = 0; k < 2; k++) {
    site.source.clock += 0.3;
    site.source.insert("a", 0, 250);
    await site.tick();
  }
  const pace = site.feed.counters.toJSON().rows_per_s; // at least a quarter of a second is taken for it
  assert.ok(pace > 0 && pace <= 1000, `${pace}`);
});

test("rows of the last second fill the limit before older ones when the beginning takes long", async () => {
  const site = new Site(100, {}, 600);
  site.source.clock += 0.9;
  const newest = site.source.insert("a", -0.8, 35); // between what a late tick and what the comparison look at
  site.source.insert("b", -1, 200);
  const counts = site.source.counts.bind(site.source);
  site.source.counts = async (...bounds) => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    return counts(...bounds);
  };
  await site.tick();
  site.source.counts = counts;
  site.source.clock += 1.02;
  await site.feed.compare();
  await site.pass(2);
  await site.pass(2);
  assert.ok(newest.every((key) => site.shown.has(key)));
  assert.strictEqual(site.shown.size, 100);
});

for (const [when, missed] of [
  ["before", 0],
  ["after", 5],
]) {
  test(`rows of the second before the start that came ${when} it and do not fit: ${missed} are missed`, async () => {
    const site = new Site(5);
    if (when === "after") await site.tick();
    site.source.insert("a", -1.5, 10);
    await site.tick();
    await site.pass(2);
    await site.pass(2);
    assert.deepStrictEqual([site.shown.size, site.feed.counters.missedRows], [5, missed]);
  });
}

test("rows that come at once into a second that had rows before the start are missed", async () => {
  const site = new Site(100);
  site.source.insert("old", -5000, 20);
  await site.tick();
  site.source.insert("new", -5000, 3);
  await site.pass(2);
  assert.strictEqual(site.feed.counters.missedRows, 3);
});

test("rows known by hour only are compared by the whole hour, which the live seconds part in two", async () => {
  const source = new MemorySource();
  const [now, shown] = [source.clock + 1800, new Shown()];
  source.clock = now;
  source.insert("before", -600, 10);
  shown.countHour(hourOf(now), 10);
  source.insert("ahead", 600, 1);
  const comparison = new Comparison(source, shown, [now - 1, now + 2]);
  await comparison.run();
  assert.deepStrictEqual([...comparison.hours], [[hourOf(now), 1]]);
});

test("rows that become known by hour while their hour is compared are not missed", async () => {
  const source = new MemorySource();
  const shown = new Shown();
  const now = source.clock + 1800;
  const counts = source.counts.bind(source);
  source.counts = async (step, ...bounds) => {
    const found = await counts(step, ...bounds);
    if (step === 1) shown.maxCounted = 0; // as while a tick ends
    shown.compact();
    return found;
  };
  source.insert("late", 1000, 1);
  source.insert("ahead", 2400, 3);
  shown.count(now + 599, 2);
  shown.count(now + 600, 1);
  const comparison = new Comparison(source, shown, [now - 1, now + 2]);
  await comparison.run();
  assert.deepStrictEqual([[...comparison.hours], [...comparison.more.keys()]], [[], [now - 800]]);
});
