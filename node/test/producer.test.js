/** When batches are due and how they are kept. */
import assert from "node:assert";
import test from "node:test";
import { Clock } from "../src/lib/clock.js";
import { Outbox, Refused } from "../src/lib/outbox.js";
import { Random } from "../src/lib/random.js";

const UNITS = { ms: 10n ** 3n, us: 10n ** 6n, ns: 10n ** 9n };

for (const [precision, rows, interval] of [
  ["ns", 250, 250],
  ["us", 5000, 250],
  ["ms", 250, 250],
  ["ns", 5000, 0],
]) {
  test(`stamps are distinct and increase across batches: ${rows} rows in ${interval} ms, ${precision}`, () => {
    const clock = new Clock(interval, rows, UNITS[precision]);
    const unitNs = 10n ** 9n / UNITS[precision];
    const stamps = Array.from({ length: 20 }, () => clock.stamps()).flat();
    assert.ok(stamps.every((stamp, k) => k === 0 || stamp / unitNs > stamps[k - 1] / unitNs));
    if (!interval) return;
    const spreadMs = Number(stamps[rows - 1] - stamps[0]) / 1e6;
    assert.ok(Math.abs(spreadMs - interval) <= 0.01 * interval, `${spreadMs} ms`);
  });
}

test("a pace at which stamps could not be distinct is refused", () => {
  assert.throws(() => new Clock(250, 251, UNITS.ms), /timestamps of their own/);
});

test("a seed makes the same numbers again", () => {
  const numbers = (seed) =>
    Array.from(
      { length: 5 },
      (
        (random) => () =>
          random.normal(0, 1)
      )(new Random(seed)),
    );
  assert.deepStrictEqual(numbers(7), numbers(7));
  assert.notDeepStrictEqual(numbers(7), numbers(8));
});

class Fault extends Error {}

/** An Outbox into an array; `faults` are thrown by insert first, one a call. */
function outboxInto(stored, faults = [], options = {}) {
  return new Outbox({
    name: "test",
    server: "an array",
    backlog: 100,
    connect: async () => 1000n,
    insert: async ({ n }) => {
      if (faults.length) throw faults.shift();
      stored.push(...n);
    },
    isFault: (error) => error instanceof Fault,
    explain: () => null,
    isTooOld: ({ message }) => message === "too old",
    ...options,
  });
}

test("a batch that failed is sent again, in order", async () => {
  const stored = [];
  const outbox = outboxInto(stored, [new Fault("away"), new Fault("away")]);
  for (const n of [[1, 2], [3], [4, 5]]) outbox.put({ n });
  await outbox.wait(10_000, () => !outbox.kept.length);
  assert.deepStrictEqual(stored, [1, 2, 3, 4, 5]);
  assert.deepStrictEqual([outbox.rows, outbox.batches, outbox.retries, await outbox.close()], [5, 3, 2, 0]);
});

test("a batch that is too old is dropped, alone, and counted", async () => {
  const stored = [];
  const outbox = outboxInto(stored, [new Fault("too old")]);
  for (const n of [[1, 2], [3]]) outbox.put({ n });
  await outbox.wait(10_000, () => !outbox.kept.length);
  assert.deepStrictEqual([stored, outbox.droppedRows, await outbox.close()], [[3], 2, 1]);
});

test("what can't pass ends it, with what is kept counted as not sent", async () => {
  const outbox = outboxInto([], [new Fault("refused")], { explain: () => "a line" });
  outbox.put({ n: [1] });
  await assert.rejects(outbox.wait(10_000), Refused);
  assert.throws(() => outbox.put({ n: [2] }), Refused);
  assert.strictEqual(await outbox.close(), 1);
});

test("more than the backlog is not kept", async () => {
  const outbox = outboxInto([], [], { connect: () => new Promise(() => {}) });
  outbox.put({ n: Array(60).fill(1) });
  assert.ok(!outbox.hasRoom(60));
  assert.throws(() => outbox.put({ n: Array(60).fill(1) }), RangeError);
  assert.strictEqual(await outbox.close(new Refused("the test ends", 3)), 3);
});

test("a fault of our own ends it, too", async () => {
  const outbox = outboxInto([], [new TypeError("ours")]);
  outbox.put({ n: [1] });
  await assert.rejects(outbox.wait(10_000), TypeError);
  assert.strictEqual(await outbox.close(), 1);
});
