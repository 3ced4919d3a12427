/** query() against a real server: the TDengine of TDENGINE_DSN, or else the stand-in, which needs install.sh's .venv. */
import assert from "node:assert";
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import url from "node:url";
import { literal, query, splitDsn, TDengineError } from "../producer.js";

const ROOT = path.dirname(path.dirname(path.dirname(url.fileURLToPath(import.meta.url))));
const PYTHON = path.join(ROOT, ".venv/bin/python");
const DATABASE = `test_node_${process.pid}`;
const STARTS_MS = 20_000;

/** A port on loopback that nothing listens on right now. */
function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
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
    if (await query(splitDsn(dsn), "SELECT 1").catch(() => null)) {
      return dsn;
    }
  }
  throw new Error("the stand-in does not answer");
}

const isPossible = Boolean(process.env.TDENGINE_DSN) || fs.existsSync(PYTHON);

test("TDengine's REST interface", { skip: isPossible ? false : "no TDENGINE_DSN and no .venv" }, async (context) => {
  const dsn = process.env.TDENGINE_DSN || (await startStandIn(context));
  const tdengine = splitDsn(dsn);
  const ask = (sql) => query(tdengine, sql.replaceAll("{db}", DATABASE));
  const fails = (sql, code) =>
    assert.rejects(ask(sql), (error) => error instanceof TDengineError && error.code === code);
  context.after(() => ask("DROP DATABASE IF EXISTS {db}").catch(() => {}));

  await context.test("a database and a table are made", async () => {
    assert.deepStrictEqual(await ask("CREATE DATABASE {db} PRECISION 'ns'"), [[0]]);
    assert.deepStrictEqual(await ask("CREATE TABLE {db}.t (ts TIMESTAMP, s NCHAR(60), v VARCHAR(200), f FLOAT)"), [
      [0],
    ]);
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
      "two\nlines\r\n\ttab",
      "100%_",
      "\\%",
    ];
    texts.push("東京 🙂 é", "", " spaces ", "NULL", "/* no comment */", "-- none", "\u0001\u007f");
    const first = BigInt(Date.now()) * 1_000_000n;
    const rows = texts.map((text, k) => `(${first + BigInt(k)},${literal(text)},${literal(text)},${literal(k / 3)})`);
    assert.deepStrictEqual(await ask(`INSERT INTO {db}.t VALUES ${rows.join(" ")}`), [[texts.length]]);
    const found = await ask("SELECT s, v, CAST(ts AS BIGINT) FROM {db}.t ORDER BY ts");
    assert.deepStrictEqual(
      found.map((row) => row.slice(0, 2)),
      texts.map((text) => [text, text]),
    );
  });

  await context.test("many rows into many subtables in one statement", async () => {
    await ask("CREATE STABLE {db}.m (ts TIMESTAMP, n INT) TAGS (g INT, l BINARY(16))");
    const first = BigInt(Date.now()) * 1_000_000n;
    const parts = [];
    for (let meter = 0; meter < 10; meter++) {
      const rows = Array.from({ length: 500 }, (_, k) => `(${first + BigInt(k)},${k})`);
      parts.push(
        `{db}.d_${meter} USING {db}.m (g, l) TAGS (${meter}, ${literal("Zone '1'")}) VALUES ${rows.join(" ")}`,
      );
    }
    assert.deepStrictEqual(await ask(`INSERT INTO ${parts.join(" ")}`), [[5000]]);
    assert.deepStrictEqual(await ask("SELECT COUNT(*) FROM {db}.m"), [[5000]]);
    const [[name, place]] = await ask("SELECT tbname, l FROM {db}.m WHERE g = 3 LIMIT 1");
    assert.deepStrictEqual([name, place], ["d_3", "Zone '1'"]);
  });

  await context.test("timestamps are texts with all digits, NULL is null", async () => {
    const stamp = BigInt(Date.now()) * 1_000_000n + 123_456_789n;
    await ask(`INSERT INTO {db}.t VALUES (${stamp}, NULL, NULL, NULL)`);
    const [[text, ...others]] = await ask(`SELECT * FROM {db}.t WHERE ts = ${stamp}`);
    assert.match(text, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
    assert.deepStrictEqual(others, [null, null, null]);
  });

  await context.test("mistakes have TDengine's codes", async () => {
    await fails("SELECT * FROM {db}.nothing", "0x2603");
    await fails("SELECT nothing FROM {db}.t", "0x2602");
    await fails("SELECT * FROM no_such_database.t", "0x0388");
    await fails("INSERT INTO {db}.t VALUES (NOW, 'a')", "0x0216");
    await fails(`INSERT INTO {db}.t VALUES (NOW, ${literal("x".repeat(61))}, '', 1)`, "0x2653");
  });

  await context.test("a wrong password is refused", async () => {
    const wrong = new URL(dsn);
    wrong.password = "wrong";
    await assert.rejects(query(splitDsn(wrong.href), "SELECT 1"), (error) => error.code === "0x0357");
  });

  await context.test("nothing listening, and something that is not TDengine, are errors in one line", async () => {
    const free = `http://127.0.0.1:${await freePort()}`;
    await assert.rejects(query(splitDsn(free), "SELECT 1"), (error) => error.message === "ECONNREFUSED");
    const other = http.createServer((_, response) => response.writeHead(404).end("none"));
    await new Promise((resolve) => {
      other.listen(0, "127.0.0.1", resolve);
    });
    await assert.rejects(query(splitDsn(`http://127.0.0.1:${other.address().port}`), "SELECT 1"), /404 and no JSON/);
    other.closeAllConnections();
    other.close();
  });

  await context.test("a server that never answers is an error within the limit", async () => {
    const silent = net.createServer((socket) => socket.on("error", () => {}));
    await new Promise((resolve) => {
      silent.listen(0, "127.0.0.1", resolve);
    });
    const started = Date.now();
    await assert.rejects(query(splitDsn(`http://127.0.0.1:${silent.address().port}`), "SELECT 1"), /no answer within/);
    assert.ok(Date.now() - started < 9000);
    silent.close();
  });
});
