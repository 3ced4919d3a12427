/** Which expressions reach the engine. */
import assert from "node:assert";
import test from "node:test";
import { ExpressionError } from "../src/lib/expression-tokens.js";
import { check } from "../src/lib/expressions.js";

const COLUMNS = new Map(Object.entries({ ts: "datetime", ticker: "text", open: "number", ok: "boolean", day: "date" }));

for (const [expression, kind] of Object.entries({
  '"open" * 2': "number",
  "bucket(\"ts\", '1s')": "datetime",
  "bucket(\"day\", '1M')": "date",
  'bucket("open", 5)': "number",
  'bucket(float("open" / 3), bucket(integer("ticker"), 0.5))': "number",
  'concat("ticker", \' by \', "ticker")': "text",
  "if (\"open\" > 50000) 'large'; else 'small'": "text",
  'var x := "open"; x * 2': "number",
  '(("open" + "open") / 2) ^ 2': "number",
  '"open" > 1 ? 1 : 2': "number",
  'switch { case "open" > 1 : 1; default : 2; }': "number",
  "match(\"ticker\", 'A.*')": "boolean",
  '// what the open is\n"open"': "number",
  "-(-(1))": "number",
})) {
  test(`useful: ${expression}`, () => assert.strictEqual(check(expression, COLUMNS), kind));
}

for (const expression of [
  "",
  'bucket("ticker", 1)',
  'bucket("ts", 5)',
  'bucket("ok", true)',
  "bucket(hypot(3, 4), 2)",
  'bucket("open" / 0, 2)',
  'bucket(-csc("open"), 2)',
  'bucket("open" > 5 ? hypot(3, 4) : 3, 2)',
  'var x := roundn("open", 2); bucket(x, 2)',
  "bucket(\"ts\", '7s')",
  "while (true) { 1; }; 1",
  "repeat 1; until (false)",
  "var v[1000000000]; 1",
  "var s := 'aa'; s := concat(s, s); s := concat(s, s, s, s, s, s, s, s, s); 1 + ",
  `replace_all("ticker", 'a', '${"b".repeat(200)}')`,
  `'${"x".repeat(300)}'`,
  '"nope"',
  '"constructor"',
  "constructor",
  '"open" + "ticker"',
  'if ("ticker") 1; else 2',
  "1 > 2 ? 'text' : 1",
  "'no end",
  "'a\\'",
  `${"(".repeat(8)}1${")".repeat(8)}`,
  `${"2^".repeat(13)}1`,
  `${"1 ? 1 : ".repeat(13)}1`,
  `var x; ${"x := ".repeat(13)}1`,
  `${"-".repeat(20)}1`,
  "1".repeat(5000),
]) {
  test(`refused: ${expression.slice(0, 60)}`, () => assert.throws(() => check(expression, COLUMNS), ExpressionError));
}

test("an error says where it is", () => {
  assert.throws(
    () => check('1 +\n  "nope"', COLUMNS),
    ({ line, column, message }) => line === 1 && column === 2 && message.includes('"nope"'),
  );
});
