import assert from "node:assert";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import test from "node:test";
import url from "node:url";

const README = fs.readFileSync(new URL("../README.md", import.meta.url), "utf8");

function run(script, ...args) {
  const file = url.fileURLToPath(new URL(`../${script}`, import.meta.url));
  return spawnSync(process.execPath, [file, ...args], { encoding: "utf8", timeout: 20_000 });
}

test("the README tells every flag of both scripts and no other", () => {
  const flags = README.split("\n## Flags\n")[1]
    .split("\n## ")[0]
    .matchAll(/`(--[a-z-]+)/g);
  const told = new Set([...flags].map(([, flag]) => flag));
  const helps = ["producer.js", "server.js"].flatMap((script) => {
    return [...run(script, "--help").stdout.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, flag]) => flag);
  });
  assert.ok(helps.length > 15);
  assert.deepStrictEqual([...told].sort(), [...new Set(helps)].sort());
});

for (const script of ["producer.js", "server.js"]) {
  for (const flags of [
    ["--nonsense"],
    ["--interval", "-1"],
    ["--interval", "soon"],
    ["--dataset", "bonds"],
    ["--database", 'stocks"; DROP DATABASE power'],
    ["--database", ""],
    ["--dsn", "nonsense"],
    ["--password-file", "/nonexistent"],
    ["extra"],
    script === "server.js" ? ["--port", "70000"] : ["--rows", "0"],
    script === "server.js" ? ["--allow-origin", "localhost"] : ["--backlog", "100"],
    script === "server.js" ? ["--limit", "0"] : ["--batches", "x"],
  ]) {
    test(`a bad flag ends in one line and status 2: ${script} ${flags.join(" ")}`, () => {
      const { status, stderr, stdout } = run(script, ...flags);
      assert.deepStrictEqual([status, stdout, stderr.trimEnd().split("\n").length], [2, "", 1], stderr);
      assert.ok(stderr.startsWith(`${script}: `));
    });
  }
}
