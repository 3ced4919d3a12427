/** What viewers may request: kinds, contents, and that nothing else gets through. */
import assert from "node:assert";
import test from "node:test";
import {
  checkSize,
  digest,
  encode,
  head,
  Invalid,
  KINDS,
  LONGEST,
  MAX_MESSAGE,
  make,
  parse,
  parseResponse,
  pb,
  Refused,
  reply,
  roomOf,
  tail,
  wideTable,
} from "../src/lib/requests.js";
import { checkConfig, Features } from "../src/lib/view-config.js";

const FLOAT = 4;
const STRING = 0;

test("a request is read as it was written", () => {
  const body = make("MakeView", { view_id: "v", config: { group_by: ["a"], expressions: { b: "1", a: "2" } } });
  const { number, kind, entity, content } = parse(reply(300, "table", "table_make_view", body));
  assert.deepStrictEqual([number, kind, entity], [300, "table_make_view", "table"]);
  assert.deepStrictEqual(content.config.group_by, ["a"]);
});

test("equal contents are equal bytes, whatever the order of their maps", () => {
  const of = (expressions) => parse(reply(1, "t", "table_make_view", make("MakeView", { config: { expressions } })));
  const [one, other] = [of({ b: "1", a: "2" }), of({ a: "2", b: "1" })];
  assert.deepStrictEqual(one.body, other.body);
  assert.strictEqual(digest("k", one.body), digest("k", other.body));
  assert.notStrictEqual(digest("k", one.body), digest("k", of({ a: "2" }).body));
});

/** Bytes of a field that is not declared: its number, and text as its content. */
const unknownField = (number, text) => {
  const tag = number * 8 + 2;
  return Buffer.concat([
    Buffer.from(tag < 128 ? [tag] : [(tag % 128) + 128, tag >> 7]),
    Buffer.from([text.length]),
    Buffer.from(text),
  ]);
};

test("what is not declared is dropped, in a request and in its content", () => {
  const message = Buffer.concat([reply(1, "t", "table_size", Buffer.alloc(0)), unknownField(28, "")]);
  assert.deepStrictEqual(parse(message).kind, "table_size");
  const body = Buffer.concat([make("ReadCsv", { viewport: { start_row: 1 } }), unknownField(9, "smuggled")]);
  assert.ok(!parse(reply(1, "v", "view_to_csv", body)).body.includes("smuggled"));
});

test("what no viewer sends is refused", () => {
  for (const message of [
    Buffer.alloc(0),
    make("Envelope", { msg_id: 1, entity_id: "t" }),
    unknownField(28, ""), // table_delete
    unknownField(33, "data"), // table_update
    unknownField(38, ""), // make_join_table
    reply(1, "t", "server_error", Buffer.alloc(0)),
    reply(1, "t", "table_make_view", Buffer.alloc(20, 0xff)),
    Buffer.alloc(64, 0xff),
    Buffer.alloc(65 * 1024),
    Buffer.from([8, 1, 18, 2, 0xff, 0xfe, 66, 0]), // an entity that is not UTF-8
  ]) {
    assert.throws(() => parse(message), Refused, message.toString("hex").slice(0, 80));
  }
});

test("what makes a view of a wide table may be as large as its names need, and nothing else", () => {
  const names = Array.from({ length: 1000 }, (_, k) => `größe_${k}`.padEnd(60, "x"));
  const room = roomOf(make("TableSchema", { schema: { schema: names.map((name) => ({ name, type: FLOAT })) } }));
  const aggregates = Object.fromEntries(names.map((name) => [name, { aggregations: ["distinct count"] }]));
  const config = { columns: { columns: { columns: names } }, aggregates };
  const message = reply(1, "wide", "table_make_view", make("MakeView", { view_id: "v", config }));
  assert.ok(message.length > MAX_MESSAGE && message.length < LONGEST);
  assert.strictEqual(wideTable(message), "wide");
  checkSize(parse(message, room).body, room);
  assert.throws(() => parse(message), Refused);
  assert.throws(() => checkSize(parse(message, room).body, room / 4), Invalid);
  for (const other of [reply(1, "t", "table_size", Buffer.alloc(70_000)), Buffer.alloc(70_000, 0xff)]) {
    assert.throws(() => wideTable(other), Refused);
  }
});

test("a response is its head and its tail", () => {
  const message = Buffer.concat([head(7, "view"), tail("view_to_csv", Buffer.from("a,b"))]);
  const { number, kind, body } = parseResponse(message);
  assert.deepStrictEqual([number, kind, body.toString()], [7, "view_to_csv", "a,b"]);
});

test("every kind that is declared, but errors, has a content", () => {
  const declared = pb("Envelope").oneofs.kind.oneof.filter((kind) => kind !== "server_error");
  assert.deepStrictEqual(Object.keys(KINDS).sort(), [...declared].sort());
});

// Views

const features = new Features(
  make("Features", {
    filter_ops: { [STRING]: { options: ["==", "in", "is null"] }, [FLOAT]: { options: [">"] }, 2: { options: [">"] } },
    aggregates: {
      [FLOAT]: { aggregates: [{ name: "high minus low" }, { name: "sum" }, { name: "weighted mean", args: [FLOAT] }] },
      2: { aggregates: [{ name: "avg" }] },
    },
  }),
);
const COLUMNS = new Map([
  ["ticker", STRING],
  ["open", FLOAT],
  ["ts", 2],
]);

/** The config as it is after the check. */
function checked(config, columns = COLUMNS) {
  const content = pb("ViewConfig").decode(make("ViewConfig", config));
  checkConfig(content, columns, new Map(Object.keys(content.expressions).map((name) => [name, FLOAT])), features);
  return content;
}

test("a view of what there is passes, and is put in order", () => {
  const { filter, sort, aggregates, group_by_depth } = checked({
    group_by: ["ticker"],
    filter: [{ column: "ticker", op: "is null" }],
    sort: [
      { column: "open", op: 2 },
      { column: "open", op: 1 },
      { column: "ticker", op: 4 }, // of columns, where there are no splits
    ],
    aggregates: { open: { aggregations: ["sum"] }, gone: { aggregations: ["sum"] } },
    group_by_depth: 7,
  });
  assert.strictEqual(filter[0].value.length, 1);
  assert.deepStrictEqual(
    sort.map(({ column, op }) => [column, op]),
    [["open", 2]],
  );
  assert.deepStrictEqual([Object.keys(aggregates), group_by_depth], [["open"], 1]);
});

test("all columns of a wide table are shown, and those of groups bounded", () => {
  const names = Array.from({ length: 2000 }, (_, k) => `c${k}`);
  const wide = new Map(names.map((name) => [name, FLOAT]));
  const aggregates = Object.fromEntries(names.map((name) => [name, { aggregations: ["sum"] }]));
  const of = (count, more) =>
    checked({ columns: { columns: { columns: names.slice(0, count) } }, aggregates, ...more }, wide);
  assert.deepStrictEqual(of(2000, {}).aggregates, {}); // the engine would look at each
  const ofGroups = of(99, { group_by: ["c0"], sort: [{ column: "c1000", op: 1 }] });
  assert.deepStrictEqual(Object.keys(ofGroups.aggregates).sort(), [...names.slice(0, 99), "c1000"].sort());
  for (const more of [{ group_by: ["c0"] }, { split_by: ["c0"] }, { group_rollup_mode: 2 }]) {
    assert.throws(() => of(101, more), /at most 100 can be grouped/);
  }
  assert.throws(() => checked({ group_by: ["c0"] }, wide), /at most 100 can be grouped/);
});

const value = [{ string: "x" }];
for (const [what, config] of Object.entries({
  "too many columns": { columns: { columns: { columns: Array(2001).fill("open") } } },
  "a column that there is not": { columns: { columns: { columns: ["nope"] } } },
  "a group of Object's own names": { group_by: ["constructor"] },
  "too many levels": { group_by: Array(9).fill("ticker") },
  "a level twice": { split_by: ["ticker", "ticker"] },
  "a filter without its value": { filter: [{ column: "open", op: ">" }] },
  "a filter of two values": { filter: [{ column: "ticker", op: "==", value: [...value, ...value] }] },
  "a filter whose value is empty": { filter: [{ column: "ticker", op: "==", value: [{}] }] },
  "a comparison of another type": { filter: [{ column: "open", op: "in", value }] },
  "a time beyond all times": { filter: [{ column: "ts", op: ">", value: [{ float: 1e300 }] }] },
  "an aggregate that is not known": { aggregates: { open: { aggregations: ["nope"] } } },
  "an aggregate that crashes without rows": {
    group_by: ["ticker"],
    aggregates: { open: { aggregations: ["high minus low"] } },
  },
  "the average of a time": { group_by: ["ticker"], aggregates: { ts: { aggregations: ["avg"] } } },
  "an aggregate without its column": { aggregates: { open: { aggregations: ["weighted mean"] } } },
  "a sort that is not known": { sort: [{ column: "open", op: 99 }] },
  "a window that is not known": { windows: { w: { source: "open", op: "nope" } } },
  "a window of the engine's own name": { windows: { psp_okey: { source: "open", op: "sum" } } },
  "an expression of the engine's own name": { expressions: { psp_strand_count: "1" } },
  "a window of a column's name": { windows: { open: { source: "open", op: "sum" } } },
})) {
  test(`a view is refused: ${what}`, () => {
    assert.throws(() => checked(config), Invalid);
  });
}

test("contents are encoded again as they are", () => {
  const content = pb("ViewPort").decode(make("ViewPort", { start_row: 0, end_row: 5 }));
  assert.deepStrictEqual({ ...pb("ViewPort").decode(encode(content)) }, { start_row: 0, end_row: 5 });
});
