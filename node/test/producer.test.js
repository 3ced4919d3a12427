import assert from "node:assert";
import test from "node:test";
import { Beat, DATASETS, literal, Meters, Stocks, splitDsn } from "../producer.js";
import { splitDsn as serversSplitDsn } from "../server.js";

const UNITS = { ms: 10n ** 3n, us: 10n ** 6n, ns: 10n ** 9n };

function stampsOf(beat, rows, unitsPerS) {
  const [first, step] = beat.stamps(unitsPerS);
  return Array.from({ length: rows }, (_, k) => (first + BigInt(k) * step) / (10n ** 9n / unitsPerS));
}

test("a text becomes one literal, whatever is in it", () => {
  assert.strictEqual(literal("it's"), "'it\\'s'");
  assert.strictEqual(literal("back\\slash"), "'back\\\\slash'");
  assert.strictEqual(literal("\\"), "'\\\\'");
  assert.strictEqual(literal("\\'"), "'\\\\\\''");
  assert.strictEqual(literal('a"b`c?d%e_f'), "'a\"b`c?d%e_f'");
  assert.strictEqual(literal("two\nlines\r\t"), "'two\\nlines\\r\\t'");
  assert.strictEqual(literal("'); DROP TABLE x; --"), "'\\'); DROP TABLE x; --'");
  assert.strictEqual(literal("Zürich 東京 🙂"), "'Zürich 東京 🙂'");
  assert.strictEqual(literal(""), "''");
  assert.strictEqual(literal("NULL"), "'NULL'");
});

test("numbers, BigInts, booleans and null become literals", () => {
  assert.strictEqual(literal(1.5), "1.5");
  assert.strictEqual(literal(-0.25), "-0.25");
  assert.strictEqual(literal(2n ** 63n - 1n), "9223372036854775807");
  assert.strictEqual(literal(true), "true");
  assert.strictEqual(literal(null), "NULL");
  assert.strictEqual(literal(undefined), "NULL");
});

test("what SQL can't hold is refused", () => {
  for (const value of ["a\0b", Number.NaN, Number.POSITIVE_INFINITY, {}, [], Symbol("x"), () => 1]) {
    assert.throws(() => literal(value), TypeError);
  }
});

for (const [precision, rows, interval] of [
  ["ns", 250, 250],
  ["us", 5000, 250],
  ["ms", 250, 250],
  ["ns", 5000, 0],
]) {
  test(`stamps are distinct and increase across batches: ${rows} rows in ${interval} ms, ${precision}`, () => {
    const beat = new Beat(interval, rows);
    const stamps = Array.from({ length: 20 }, () => stampsOf(beat, rows, UNITS[precision])).flat();
    assert.ok(stamps.every((stamp, k) => k === 0 || stamp > stamps[k - 1]));
    if (interval) {
      const spread = Number(stamps[rows - 1] - stamps[0]) / Number(UNITS[precision]);
      assert.ok(Math.abs(spread - interval / 1000) < (0.01 * interval) / 1000, `${spread} s`);
    }
  });
}

test("a pace at which stamps could not be distinct is refused", () => {
  assert.throws(() => new Beat(250, 251).stamps(UNITS.ms), /timestamps of their own/);
});

test("stocks walk, and keep low and high around open and close", () => {
  const stocks = new Stocks();
  for (let k = 0; k < 40; k++) {
    const batch = stocks.make(250);
    for (let row = 0; row < 250; row++) {
      const [open, high, low, close] = ["open", "high", "low", "close"].map((name) => batch[name][row]);
      assert.ok(low <= open && low <= close && high >= open && high >= close && high < 500);
      assert.ok(batch.volume[row] >= 10_000 && batch.volume[row] <= 100_000);
    }
  }
});

test("meters stay within the range of their voltage", () => {
  const meters = new Meters();
  for (let k = 0; k < 40; k++) {
    assert.ok(meters.make(250).voltage.every((voltage) => voltage >= 200 && voltage <= 225));
  }
});

for (const [name, dataset] of Object.entries(DATASETS)) {
  test(`${name}: every row of a batch is in one of its statements`, () => {
    const rows = 123;
    const batch = new dataset().make(rows);
    const stamps = Array.from({ length: rows }, (_, k) => 1_764_028_800_000_000_000n + BigInt(k));
    const part = (from, to) => ({ stamps, columns: batch, from, to });
    const statements = [[part(0, 50)], [part(50, 101), part(101, rows)]].map((parts) => {
      return dataset.insert("db.t", parts, UNITS.ns);
    });
    const found = statements.join(" ").match(/\(1764028800000000\d{3},/g);
    assert.strictEqual(new Set(found).size, rows);
    assert.ok(statements.every((sql) => sql.startsWith("INSERT INTO db.")));
  });
}

for (const [script, split] of [
  ["producer.js", splitDsn],
  ["server.js", serversSplitDsn],
]) {
  test(`${script}: a DSN tells address, user, password and database`, () => {
    const at = split("ws://root:p%40ss%2F%25@db.example:6041/power?read_timeout=5");
    assert.strictEqual(at.url, "http://db.example:6041/rest/sql");
    assert.strictEqual(at.authorization, `Basic ${Buffer.from("root:p@ss/%").toString("base64")}`);
    assert.strictEqual(at.server, "ws://db.example:6041");
    assert.strictEqual(at.database, "power");
    assert.strictEqual(split("http://h").url, "http://h:6041/rest/sql");
    assert.strictEqual(split("http://h:80").url, "http://h:80/rest/sql");
    assert.strictEqual(
      split("wss://gw.cloud.example?token=a%26b").url,
      "https://gw.cloud.example:443/rest/sql?token=a%26b",
    );
    assert.strictEqual(split("ws://[::1]:6041").url, "http://[::1]:6041/rest/sql");
    assert.match(split("ws://h").authorization, /^Basic cm9vdDp0YW9zZGF0YQ==$/);
  });

  test(`${script}: an unusable DSN is an error`, () => {
    for (const dsn of ["nonsense", "mysql://h", "ws://", "ws://root:sec/ret@localhost:6041", "ws://u:%E0%A4@h"]) {
      assert.throws(() => split(dsn), undefined, dsn);
    }
  });
}
