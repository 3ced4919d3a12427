/** Values on their way: DSN, SQL, JSON of REST, Arrow. */
import assert from "node:assert";
import fs from "node:fs";
import test from "node:test";
import * as arrow from "@uwdata/flechette";
import { columnOf, toArrow } from "../src/lib/columns.js";
import { InvalidDsn, parseDsn } from "../src/lib/dsn.js";
import { literal, splitName } from "../src/lib/names.js";
import { floorDivide, newestBefore } from "../src/lib/times.js";

test("a DSN names host, port, user, password and database", () => {
  const dsn = parseDsn("ws://root:p%40ss%2F%25@db.example:6041/power?read_timeout=5");
  assert.deepStrictEqual(dsn.hosts, [{ hostname: "db.example", port: 6041, path: "/rest/sql" }]);
  assert.strictEqual(dsn.authorization, `Basic ${Buffer.from("root:p@ss/%").toString("base64")}`);
  assert.deepStrictEqual([dsn.shown, dsn.database], ["ws://db.example:6041", "power"]);
  assert.strictEqual(dsn.hide("no p@ss/% \n nor p%40ss%2F%25"), "no *** nor ***");
  assert.strictEqual(parseDsn("taos+ws://h").hosts[0].port, 6041);
  assert.strictEqual(parseDsn("http://[::1]:80").hosts[0].hostname, "::1");
  assert.strictEqual(parseDsn("wss://gw.example?token=a%26b").hosts[0].path, "/rest/sql?token=a%26b");
  assert.deepStrictEqual(
    parseDsn("ws://a:1,b:2").hosts.map(({ port }) => port),
    [1, 2],
  );
  assert.match(parseDsn("ws://h").authorization, /^Basic cm9vdDp0YW9zZGF0YQ==$/);
});

test("what is no DSN is refused in a line that shows nothing of it", () => {
  for (const dsn of [
    "nonsense",
    "mysql://root:secret@h",
    "ws://",
    "ws://root:sec/ret@localhost:6041",
    "ws://root:sec#ret@localhost",
    "ws://u:%E0%A4secret@h",
    "ws://root:secret@h:0",
    "ws://root:secret@h:70000",
    "ws://root:sec@ret@h",
  ]) {
    assert.throws(
      () => parseDsn(dsn),
      (error) => error instanceof InvalidDsn && !/sec|ret/.test(error.message),
      dsn,
    );
  }
  assert.throws(() => parseDsn("ws://h", "/nonexistent"), /can't read the password file/);
});

test("a text becomes one literal, whatever is in it", () => {
  assert.strictEqual(literal("it's"), "'it''s'");
  assert.strictEqual(literal("back\\slash"), "'back\\\\slash'");
  assert.strictEqual(literal("'); DROP TABLE x; --"), "'''); DROP TABLE x; --'");
  assert.throws(() => literal("a\0b"), TypeError);
});

test("a table's name is taken as it is", () => {
  assert.deepStrictEqual(splitName("db.t"), ["db", "t"]);
  assert.deepStrictEqual(splitName("db.`a.b`"), ["db", "a.b"]);
  assert.deepStrictEqual(splitName("`my db`.t"), ["my db", "t"]);
  assert.deepStrictEqual(splitName("t", "db"), ["db", "t"]);
  assert.throws(() => splitName("t"), /is not DB.TABLE/);
});

test("times are exact, also before 1970", () => {
  assert.strictEqual(floorDivide(1_795_665_313_999_999_999n, 10n ** 9n), 1_795_665_313);
  assert.strictEqual(floorDivide(-1n, 1000n), -1);
  assert.strictEqual(floorDivide(-1000n, 1000n), -1);
  const rows = [3000n, 1500n, 99_000n].map((time) => ({ time }));
  assert.deepStrictEqual(newestBefore(rows, 4000, 1000n), { time: 3000n, ms: 3000 });
  assert.strictEqual(newestBefore(rows, 1000, 1000n), null);
});

/** What Arrow holds of the values of a column, as JavaScript values. */
function shownAs(type, values, ...options) {
  const column = columnOf("c", type, "ns", ...options);
  const [bytes, unshown] = toArrow(
    values.map((value) => ({ values: [value] })),
    [column],
  );
  const table = arrow.tableFromIPC(bytes, { useBigInt: true });
  return { kind: column.kind, values: table.getChild("c").toArray ? [...table.getChild("c")] : [], unshown };
}

const hex = (text) => Buffer.from(text).toString("hex");
for (const [type, kind, given, expected] of [
  ["BIGINT", "integer", ["9007199254740993", 5, null], [9007199254740993n, 5n, null]],
  ["BIGINT UNSIGNED", "integer", ["18446744073709551615"], [18446744073709551615n]],
  ["INT UNSIGNED", "integer", [4294967295, null], [4294967295n, null]],
  ["BOOL", "boolean", [true, false, null], [true, false, null]],
  ["DECIMAL(20, 4)", "float", ["12.3456", null], [12.3456, null]],
  ["NCHAR(20)", "string", ["größe", "", null], ["größe", "", null]],
  ["VARCHAR(20)", "string", [hex("text"), hex("größe"), "", null], ["text", "größe", "", null]],
  ["VARBINARY(9)", "string", ["00ff"], ["00ff"]],
]) {
  test(`${type} is shown exactly`, () => {
    const shown = shownAs(type, given);
    assert.deepStrictEqual(shown, { kind, values: expected, unshown: 0 });
  });
}

test("a GEOMETRY is shown exactly", () => {
  const texts = JSON.parse(fs.readFileSync(new URL("../../tests/geometries.json", import.meta.url), "utf8"));
  const shown = shownAs("GEOMETRY(200)", [...Object.values(texts), null, "0102000000ffffffff", "0109000000", ""]);
  assert.deepStrictEqual([shown.values, shown.unshown], [[...Object.keys(texts), null, null, null, null], 3]);
  assert.strictEqual(columnOf("g", "GEOMETRY(200)", "ms").expression, "`g`");
});

test("a TIMESTAMP is a datetime in milliseconds, or a date", () => {
  assert.strictEqual(columnOf("c", "TIMESTAMP", "ns").convert("1795665313122498537"), 1_795_665_313_122);
  assert.strictEqual(columnOf("c", "TIMESTAMP", "ms").convert(1_795_665_313_122), 1_795_665_313_122);
  for (const precision of ["us", "ns"]) {
    assert.strictEqual(columnOf("c", "TIMESTAMP", precision).convert(-1), -1); // towards the past
  }
  assert.strictEqual(columnOf("c", "TIMESTAMP", "ms", false, true).kind, "date");
});

test("what is not UTF-8 is shown as null and counted; as a key it tells rows apart", () => {
  const shown = shownAs("VARCHAR(20)", ["61", "ff", "fe", null]);
  assert.deepStrictEqual([shown.values, shown.unshown], [["a", null, null, null], 2]);
  assert.strictEqual(shownAs("VARCHAR(20)", ["ff", "fe"], true).unshown, 0);
});

test("a type that nobody knows is an error", () => assert.throws(() => columnOf("c", "BLOB", "ms"), /not known here/));
