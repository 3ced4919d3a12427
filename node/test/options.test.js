/** Flags: those that the README names; what is said of wrong ones is in tests/test_scripts.py. */
import assert from "node:assert";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import test from "node:test";
import url from "node:url";

const README = fs.readFileSync(new URL("../README.md", import.meta.url), "utf8");

function run(script, ...args) {
  const file = url.fileURLToPath(new URL(`../src/${script}`, import.meta.url));
  return spawnSync(process.execPath, [file, ...args], { encoding: "utf8", timeout: 60_000 });
}

test("the README names every flag of both scripts and no other", () => {
  const [, section] = README.split("\n## Flags\n");
  const named = [...section.split("\n## ")[0].matchAll(/`(--[a-z-]+)/g)].map(([, flag]) => flag);
  const flags = ["producer.js", "server.js"].flatMap((script) => {
    return [...run(script, "--help").stdout.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, flag]) => flag);
  });
  assert.ok(flags.length > 25);
  assert.deepStrictEqual([...new Set(named)].sort(), [...new Set(flags)].sort());
});

test("the page's own server takes a port, and says how it is started", () => {
  for (const [args, status, words] of [
    [["--help"], 0, "usage: node src/page.js [PORT]"],
    [["x"], 2, "'x' is no port"],
    [["65536"], 2, "'65536' is no port"],
  ]) {
    const done = run("page.js", ...args);
    assert.deepStrictEqual([done.status, done.stderr.includes(words)], [status, true], done.stderr);
  }
});
