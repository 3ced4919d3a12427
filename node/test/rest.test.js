/** query() against a server: the TDengine of TDENGINE_DSN, or else the stand-in, which needs the Python environment. */
import assert from "node:assert";
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ROOT } from "../src/lib/browser-files.js";
import { parseDsn } from "../src/lib/dsn.js";
import { literal } from "../src/lib/names.js";
import { query, TDengineError } from "../src/lib/rest.js";
import { Table } from "../src/lib/tdengine.js";

const PYTHON = [process.env.VIRTUAL_ENV, path.join(ROOT, "venv")]
  .map((environment) => environment && path.join(environment, "bin/python"))
  .find((python) => python && fs.existsSync(python));
const DATABASE = `node_test_${process.pid}`;
const STARTS_MS = 20_000;

const listening = (server) =>
  new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));

async function freePort() {
  const server = net.createServer();
  const port = await listening(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The stand-in's DSN; it ends with the tests. */
async function startStandIn(context) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "stand-in-"));
  const port = await freePort();
  const args = ["-m", "embedded", "--port", String(port), "--data", folder];
  const standIn = spawn(PYTHON, args, { cwd: ROOT, stdio: "ignore" });
  context.after(() => {
    standIn.kill("SIGKILL");
    fs.rmSync(folder, { recursive: true, force: true });
  });
  const dsn = `http://root:taosdata@127.0.0.1:${port}`;
  for (const started = Date.now(); Date.now() - started < STARTS_MS; await sleep(50)) {
    if (await query(parseDsn(dsn), "SELECT 1").catch(() => null)) return dsn;
  }
  throw new Error("the stand-in does not answer");
}

const isPossible = Boolean(process.env.TDENGINE_DSN || PYTHON);

test("TDengine's REST interface", { skip: isPossible ? false : "no TDENGINE_DSN and no venv" }, async (context) => {
  const address = process.env.TDENGINE_DSN || (await startStandIn(context));
  const dsn = parseDsn(address);
  const ask = (sql) => query(dsn, sql.replaceAll("{db}", DATABASE));
  const fails = (sql, code) =>
    assert.rejects(ask(sql), (error) => error instanceof TDengineError && error.code === code && !error.away);
  context.after(() => ask("DROP DATABASE IF EXISTS {db}").catch(() => {}));

  await context.test("a database and a table are made", async () => {
    assert.deepStrictEqual(await ask("CREATE DATABASE {db} PRECISION 'ns'"), [[0]]);
    await ask("CREATE TABLE {db}.t (ts TIMESTAMP, s NCHAR(60), v VARCHAR(200), f FLOAT, big BIGINT)");
  });

  await context.test("texts come back as they were, whatever is in them", async () => {
    const texts = [
      "it's",
      "\\",
      "\\'",
      "\\\\n",
      '"',
      "`?`",
      "'); DROP TABLE t; --",
      "100%_",
      "東京 🙂 é",
      "",
      " spaces ",
    ];
    texts.push("NULL", "/* no comment */", "-- none", "12345678901234567890", ',12345678901234567890,"');
    const first = BigInt(Date.now()) * 1_000_000n;
    const rows = texts.map((text, k) => `(${first + BigInt(k)},${literal(text)},${literal(text)},${k / 3},${k})`);
    await ask(`INSERT INTO {db}.t (ts, s, v, f, big) VALUES ${rows.join(" ")}`);
    const table = new Table(dsn, { database: DATABASE, name: "t" });
    assert.ok(await table.describe());
    assert.ok(!(await table.describe()));
    const found = await table.rows(`SELECT ${table.select} FROM ${table.name} ORDER BY ts`);
    const shown = found.map(({ values }) => [1, 2].map((k) => table.columns[k].convert(values[k])));
    assert.deepStrictEqual(
      shown,
      texts.map((text) => [text, text]),
    );
    assert.deepStrictEqual([found[0].time, await table.count()], [first, texts.length]);
    const seconds = new Map([[Number(first / 10n ** 9n), texts.length]]);
    assert.deepStrictEqual(await table.counts(1), seconds);
  });

  await context.test("whole numbers are exact, NULL is null", async () => {
    const stamp = BigInt(Date.now()) * 1_000_000n + 123_456_789n;
    await ask(`INSERT INTO {db}.t (ts, big) VALUES (${stamp}, 9007199254740993)`);
    const found = await ask(`SELECT CAST(ts AS BIGINT), big, s, f FROM {db}.t WHERE ts = ${stamp}`);
    assert.deepStrictEqual(found, [[String(stamp), "9007199254740993", null, null]]);
  });

  await context.test("mistakes have TDengine's codes", async () => {
    await fails("SELECT * FROM {db}.nothing", "0x2603");
    await fails("SELECT nothing FROM {db}.t", "0x2602");
    await fails("SELECT * FROM no_such_database.t", "0x0388");
    await fails(`INSERT INTO {db}.t (ts, s) VALUES (NOW, ${literal("x".repeat(61))})`, "0x2653");
  });

  await context.test("a wrong password is refused, and not shown", async () => {
    const wrong = address.replace(/\/\/[^@]*@/, "//root:not-the-password@");
    const refused = ({ code, message }) => code === "0x0357" && !message.includes("not-the-password");
    await assert.rejects(query(parseDsn(wrong), "SELECT 1"), refused);
  });
});

test("nothing listening, and something that is not TDengine, are errors in one line", async () => {
  const free = parseDsn(`http://127.0.0.1:${await freePort()}`);
  await assert.rejects(query(free, "SELECT 1"), ({ message, away }) => message === "ECONNREFUSED" && away);
  const other = http.createServer((_, response) => response.writeHead(404).end("none"));
  const dsn = parseDsn(`http://127.0.0.1:${await listening(other)}`);
  await assert.rejects(query(dsn, "SELECT 1"), /404 and no JSON/);
  other.closeAllConnections();
  other.close();
});

test("of several hosts, the next one is used when one does not answer", async () => {
  const server = http.createServer((_, response) => response.end('{"code":0,"data":[[1]]}'));
  const port = await listening(server);
  const dsn = parseDsn(`http://127.0.0.1:${await freePort()},127.0.0.1:${port}`);
  await assert.rejects(query(dsn, "SELECT 1"), /ECONNREFUSED/);
  assert.deepStrictEqual(await query(dsn, "SELECT 1"), [[1]]);
  server.closeAllConnections();
  server.close();
});

test("a server that never answers is an error within the limit", async () => {
  const silent = net.createServer((socket) => socket.on("error", () => {}));
  const port = await listening(silent);
  const started = Date.now();
  await assert.rejects(query(parseDsn(`http://127.0.0.1:${port}`), "SELECT 1"), /no answer within 6 s/);
  assert.ok(Date.now() - started < 20_000);
  silent.close();
});
