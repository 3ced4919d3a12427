/** The engine that npm ci installs: what the server relies on, and that its limits keep the engine whole. */
import assert from "node:assert";
import test from "node:test";
import { Engine, encode, isHarmful, parseRequest } from "../server.js";

const perspective = await import("@perspective-dev/client");
const engine = new Engine(perspective);
const COLUMNS = { ts: "datetime", ticker: "string", open: "float" };
const batch = () => ({ ts: [1, 2, 3], ticker: ["a", "b", "c"], open: [1.5, 2.5, null] });
const table = await engine.host("values", COLUMNS, batch(), 100);

test("a table is hosted with its first rows and its columns' types", async () => {
  assert.deepStrictEqual(await table.schema(), COLUMNS);
  assert.strictEqual(await table.size(), 3);
  assert.deepStrictEqual(await engine.ours.get_hosted_table_names(), ["values"]);
});

// each level goes through all of ExprTK's levels of precedence: the deepest recursion that was found
const LEVEL = "1 or 1 and 1==1+1*-";
const AT_THE_LIMIT = {
  "brackets and powers": `${`${LEVEL}(`.repeat(6)}${"2^".repeat(12)}1${")".repeat(6)}`,
  "brackets and choices": `${`${LEVEL}(`.repeat(6)}${"1?1:".repeat(12)}1${")".repeat(6)}`,
  "functions of texts": `${`${LEVEL}length(concat(`.repeat(1)}'a','b'))`,
  functions: `${`${LEVEL}max(1,`.repeat(6)}${"2^".repeat(12)}1${")".repeat(6)}`,
  choices: `${`${LEVEL}if(1>0,`.repeat(6)}${"2^".repeat(12)}1${",2)".repeat(6)}`,
  blocks: `${`${LEVEL}~{`.repeat(6)}1${"}".repeat(6)}`,
  assignments: `var x; ${"x:=".repeat(12)}${`${LEVEL}(`.repeat(6)}1${")".repeat(6)}`,
  "a long sum": `${"1+".repeat(4000)}1`,
  "many minus signs": `${"-".repeat(8000)}1`,
};

for (const [name, expression] of Object.entries(AT_THE_LIMIT)) {
  test(`the deepest expression that is let in leaves the engine whole: ${name}`, async () => {
    assert.ok(!isHarmful(expression));
    const validated = await table.validate_expressions({ e: expression });
    if (!Object.keys(validated.errors).length) {
      const view = await table.view({ group_by: ["ticker"], columns: ["e"], expressions: { e: expression } });
      await view.on_update(() => {}, { mode: "row" });
      await table.update(batch());
      await view.to_columns();
      await view.delete();
    }
    await table.update(batch());
    assert.ok((await table.size()) > 3);
  });
}

test("a request that the engine refuses is answered, and the next one too", async () => {
  const answers = [];
  const session = await engine.session((answer) => answers.push(Buffer.from(answer)));
  await session.request(encode([1, 7], [2, "nothing"], [8, ""]));
  await session.request(encode([1, 8], [2, "values"], [8, ""]));
  assert.deepStrictEqual(
    answers.map((answer) => parseRequest(answer).number),
    [7, 8],
  );
  await session.close();
});
