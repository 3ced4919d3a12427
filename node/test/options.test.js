/** Flags: those that the README names, and what is said of wrong ones. */
import assert from "node:assert";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import test from "node:test";
import url from "node:url";

const README = fs.readFileSync(new URL("../README.md", import.meta.url), "utf8");
const BRIDGE = fs.readFileSync(new URL("../../bridge/__init__.py", import.meta.url), "utf8");

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

test("the version is the project's", () => {
  const [, version] = /VERSION = "([\d.]+)"/.exec(BRIDGE);
  assert.strictEqual(run("server.js", "--version").stdout, `server.js ${version}\n`);
});

test("a negative number is a value that is wrong, not another flag", () => {
  assert.match(run("server.js", "--interval", "-1").stderr, /argument --interval: '-1' is not a whole number/);
});

const BOTH = [
  ["--nonsense"],
  ["--interval", "-1"],
  ["--interval", "soon"],
  ["--dataset", "bonds"],
  ["--database", "a`b"],
  ["--database", ""],
  ["--dsn", "nonsense"],
  ["--dsn", "ws://root:secret#@localhost"],
  ["--password-file", "/nonexistent"],
  ["extra"],
];
const OF = {
  "producer.js": [
    ["--rows", "0"],
    ["--backlog", "100"],
    ["--batches", "x"],
  ],
  "server.js": [
    ["--port", "70000"],
    ["--allow-origin", "localhost"],
    ["--limit", "0"],
    ["--table", "nodot"],
    ["--source", "subscribe"],
    ["--history", "long"],
    ["--prefix", "no-slash"],
    ["--certfile", "/nonexistent"],
    ["--keyfile", "/nonexistent"],
    ["--log-level", "loud"],
  ],
};
for (const [script, own] of Object.entries(OF)) {
  for (const flags of [...BOTH, ...own]) {
    test(`a wrong flag ends in one line and status 2: ${script} ${flags.join(" ")}`, () => {
      const { status, stderr, stdout } = run(script, ...flags);
      assert.deepStrictEqual([status, stdout, stderr.trimEnd().split("\n").length], [2, "", 1], stderr);
      assert.ok(stderr.startsWith(`${script}: `));
      assert.ok(!stderr.includes("secret"));
    });
  }
}
