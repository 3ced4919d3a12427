import assert from "node:assert";
import fs from "node:fs";
import test from "node:test";
import { DATASETS as PRODUCED } from "../producer.js";
import {
  DATASETS,
  encode,
  expressionsOf,
  fields,
  isHarmful,
  parseRequest,
  Shown,
  stampOf,
  Viewers,
} from "../server.js";

const UNITS = { ms: 10n ** 3n, us: 10n ** 6n, ns: 10n ** 9n };

test("what both scripts repeat is equal", () => {
  const [producer, server] = ["producer.js", "server.js"].map((file) => {
    return fs.readFileSync(new URL(`../${file}`, import.meta.url), "utf8");
  });
  const part = (text, from, to) => text.slice(text.indexOf(from), text.indexOf(to, text.indexOf(from)));
  for (const [from, to] of [
    ["/** What TDengine or the way to it", "\n}\n\n/** A TIMESTAMP"],
    ["/** Where TDengine is: {url", "const HELP"],
  ]) {
    const theirs = part(server, from, to);
    assert.ok(theirs.length > 1000);
    assert.ok(producer.includes(theirs), theirs.slice(0, 80));
  }
});

test("the server reads the columns that the producer creates", () => {
  for (const [name, read] of Object.entries(DATASETS)) {
    const made = PRODUCED[name];
    assert.deepStrictEqual([made.database, made.table], [read.database, read.table]);
    const created = [...made.create.matchAll(/`?(\w+)`? (?:TIMESTAMP|NCHAR|BINARY|FLOAT|INT)/g)].map(
      ([, column]) => column,
    );
    assert.deepStrictEqual(
      Object.keys(read.columns).filter((column) => column !== "tbname"),
      created,
    );
    assert.strictEqual(read.time, created[0]);
  }
});

test("timestamps keep every digit", () => {
  assert.strictEqual(stampOf("2026-11-25T10:33:39.550670546Z", UNITS.ns), 1_795_602_819_550_670_546n);
  assert.strictEqual(stampOf("2026-11-25T10:33:39.550Z", UNITS.ms), 1_795_602_819_550n);
  assert.strictEqual(stampOf("2026-11-25T10:33:39.550670Z", UNITS.us), 1_795_602_819_550_670n);
  assert.strictEqual(stampOf("2026-11-25T18:33:39.55+08:00", UNITS.ns), 1_795_602_819_550_000_000n);
  assert.strictEqual(stampOf("2026-11-25T10:33:39Z", UNITS.us), 1_795_602_819_000_000n);
  for (const text of ["", "2026-11-25", "2026-11-25 10:33:39", "yesterday"]) {
    assert.throws(() => stampOf(text, UNITS.ns), /no timestamp/);
  }
});

test("a request is read as it was written", () => {
  const message = encode([1, 300], [2, "table"], [8, ""]);
  const { number, kind, entity, body } = parseRequest(message);
  assert.deepStrictEqual([number, kind, entity, body.length], [300, 8, "table", 0]);
  assert.deepStrictEqual(
    fields(encode([1, 2 ** 31], [6, "x".repeat(300)])).map(([n]) => n),
    [1, 6],
  );
});

test("what isn't exactly one request is an error", () => {
  const bytes = (...values) => Buffer.from(values);
  for (const message of [
    Buffer.alloc(0),
    encode([1, 1], [2, "t"]),
    encode([1, 1], [4, ""], [28, ""]),
    encode([1, 1], [2, "a"], [2, "b"], [4, ""]),
    encode([1, 2 ** 32], [4, ""]),
    encode([28, 1]),
    encode([2, 1], [4, ""]),
    bytes(0x02, 0x00),
    bytes(0xe2, 0x01, 0x7f),
    Buffer.alloc(64, 0xff),
    Buffer.concat([encode([1, 1]), bytes(0xe3, 0x01, 0xe4, 0x01)]),
  ]) {
    assert.throws(() => parseRequest(message), message.toString("hex"));
  }
});

test("expressions are found where requests carry them", () => {
  const entry = encode([1, "e"], [2, '"open" + 1']);
  assert.deepStrictEqual(expressionsOf(9, encode([1, entry])), ['"open" + 1']);
  assert.deepStrictEqual(expressionsOf(6, encode([1, "a-view-name"], [2, encode([6, entry], [6, entry])])), [
    '"open" + 1',
    '"open" + 1',
  ]);
});

test("expressions that could stop the engine are told from useful ones", () => {
  for (const harmful of [
    "while (true) { 1; }; 1",
    "WHILE(1){1}",
    "repeat 1; until (false)",
    "var v[1000000000]; 1",
    "var s := concat('aaaa', 'b'); s := concat(s, s); s",
    `${"(".repeat(7)}1${")".repeat(7)}`,
    `concat('${")".repeat(9)}', ${"abs(".repeat(7)}1${")".repeat(8)}`.replace("concat", "upper"),
    `/* ${")".repeat(9)} */ ${"abs(".repeat(7)}1${")".repeat(7)}`,
    `'\\'${")".repeat(9)}' == ${"abs(".repeat(7)}1${")".repeat(7)}`,
    `${"2^".repeat(13)}1`,
    `${"1 ? 1 : ".repeat(13)}1`,
    `var x; ${"x := ".repeat(13)}1`,
  ]) {
    assert.ok(isHarmful(harmful), harmful);
  }
  for (const useful of [
    '"high" - "low"',
    'concat("ticker", \' by \', "client")',
    "bucket(\"timestamp\", '1s')",
    "if (\"volume\" > 50000) 'large'; else 'small'",
    'var x := "open"; x * 2',
    `${'abs("open") + '.repeat(20)}1`,
    '(("high" + "low") / 2) ^ 2',
  ]) {
    assert.ok(!isHarmful(useful), useful);
  }
});

test("pages of the server itself, of localhost and from disk may connect, others not", () => {
  const viewers = new Viewers(10, "0.0.0.0", ["https://Demo.example/"], true);
  const may = (origin, host = "192.0.2.1:8080") => viewers.mayComeFrom(origin, host);
  for (const origin of [
    "null",
    "http://localhost:3000",
    "http://[::1]:80",
    "https://demo.example",
    "http://192.0.2.1:8080",
  ]) {
    assert.ok(may(origin), origin);
  }
  for (const origin of ["", "http://evil.example", "http://localhost.evil.example", "http://localhost@evil.example"]) {
    assert.ok(!may(origin), origin);
  }
  assert.ok(!may("http://evil.example:8080", "evil.example:8080")); // DNS rebinding
  assert.ok(!new Viewers(10, "127.0.0.1", [], false).mayComeFrom("null", "localhost"));
});

test("what was shown is forgotten oldest first, and it tells from when on it still knows", () => {
  const shown = new Shown();
  for (let second = 100; second < 110; second++) {
    for (let key = 0; key < 10; key++) {
      shown.add(second, key);
    }
  }
  assert.strictEqual(shown.forgetOldest(100), null);
  assert.strictEqual(shown.forgetOldest(75), 103);
  assert.deepStrictEqual([shown.total, shown.has(102, 1), shown.has(103, 1)], [70, false, true]);
  shown.remove(103, 1);
  shown.remove(103, 1);
  assert.deepStrictEqual(shown.of(103), [0, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepStrictEqual([shown.total, shown.counts(103).get(103), shown.counts(104).get(103)], [69, 9, undefined]);
});
