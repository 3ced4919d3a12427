/** HTTP, and who may connect. */
import assert from "node:assert";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test from "node:test";
import { BrowserFiles, PERSPECTIVE } from "../src/lib/browser-files.js";
import { metricsOf } from "../src/lib/metrics.js";
import { Origins } from "../src/lib/origins.js";
import { listen, makeHttpServer, policyOf } from "../src/lib/web.js";

const PAGE = "<p>\n<script type=module>\nlet a;\n</script>\n";
const HEALTH = { status: "ok", rows: 5, held: 5, lag_ms: 20, age_ms: null };

test("the policy's hash is that of the script with LF, also in a checkout with CRLF", () => {
  const hash = createHash("sha256").update("\nlet a;\n").digest("base64");
  for (const page of [PAGE, PAGE.replaceAll("\n", "\r\n")]) {
    assert.ok(policyOf(Buffer.from(page), ["localhost:8080"]).includes(`'sha256-${hash}'`));
  }
});

test("a host is named in the policy only if it is one", () => {
  assert.match(policyOf(Buffer.from(PAGE), ["demo.example:8080"]), /connect-src 'self' ws:\/\/demo.example:8080 /);
  assert.ok(!policyOf(Buffer.from(PAGE), ["x; script-src *"]).includes("script-src *"));
});

test("pages of the server itself, of localhost and from disk may connect, others not", () => {
  const origins = new Origins({
    host: "0.0.0.0",
    allowOrigins: ["https://Demo.example/"],
    allowHosts: ["Proxy.example"],
  });
  const may = (origin, host = "192.0.2.1:8080") => origins.mayComeFrom(origin, host);
  for (const origin of [
    "null",
    "http://localhost:3000",
    "http://[::1]:80",
    "https://demo.example",
    "http://192.0.2.1:8080",
  ]) {
    assert.ok(may(origin), origin);
  }
  for (const origin of ["", "http://evil.example", "http://localhost.evil.example", "http://localhost@evil.example"]) {
    assert.ok(!may(origin), origin);
  }
  assert.ok(!may("http://evil.example:8080", "evil.example:8080")); // DNS rebinding
  assert.ok(!new Origins({ host: "127.0.0.1", fileOrigin: false }).mayComeFrom("null", "localhost"));
  for (const host of ["localhost:8080", "127.0.0.1", "[::1]:80", "proxy.example", `${os.hostname()}:1`]) {
    assert.ok(origins.knowsHost(host), host);
  }
  for (const host of ["evil.example", "", undefined, "localhost.evil.example", "a b"])
    assert.ok(!origins.knowsHost(host));
});

test("Perspective's files come out of the Python package where that is of the same version, else from npm", async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "venv-"));
  const packages = path.join(folder, "lib/python3.11/site-packages");
  fs.mkdirSync(path.join(packages, "perspective/widget/static"), { recursive: true });
  for (const type of ["js", "css"]) {
    fs.writeFileSync(
      path.join(packages, `perspective/widget/static/perspective-anywidget.${type}`),
      `of the wheel: ${type}`,
    );
  }
  assert.ok(!new BrowserFiles([folder]).isWheel, "of which version?");
  fs.mkdirSync(path.join(packages, `perspective_python-${PERSPECTIVE}.dist-info`));
  const wheel = new BrowserFiles([folder]);
  assert.strictEqual((await wheel.get("perspective.js", false)).body.toString(), "of the wheel: js");
  assert.strictEqual(await wheel.get("npm/perspective-viewer.js"), undefined);
  const npm = new BrowserFiles([]);
  assert.match((await npm.get("perspective.js", false)).body.toString(), /export const ready/);
  for (const name of npm.files.keys()) assert.ok((await npm.get(name, true)).body.length > 50, name);
  fs.rmSync(folder, { recursive: true });
});

test("metrics have Prometheus' form", () => {
  const text = metricsOf({
    tables: { 'a "b"\\': HEALTH },
    viewers: 1,
    busy: false,
    refused: { "http 403": 2 },
    restarts: { crashed: 1 },
    sent_bytes: 7,
  });
  for (const line of [
    'perspective_rows_total{table="a \\"b\\"\\\\"} 5',
    'perspective_lag_seconds{table="a \\"b\\"\\\\"} 0.02',
    'perspective_refused_total{kind="http 403"} 2',
    'perspective_restarts_total{reason="crashed"} 1',
    "perspective_sent_bytes_total 7",
    "# TYPE perspective_viewers gauge",
  ]) {
    assert.ok(text.includes(`${line}\n`), line);
  }
  assert.ok(!/newest_row_age_seconds\{/.test(text));
});

test("what is answered at which path", async (context) => {
  const viewers = {
    origins: new Origins({ host: "127.0.0.1" }),
    health: () => ({ viewers: 0, refused: {}, sent_bytes: 0, busy: false }),
    obstacle: () => null,
  };
  const tables = [{ title: "t", health: () => HEALTH }];
  const server = makeHttpServer({
    tables,
    viewers,
    place: { restarts: {} },
    prefix: "/demo",
    files: new BrowserFiles([]),
  });
  const port = await listen(server, 0, "127.0.0.1");
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const get = (where, options = {}) => fetch(`http://127.0.0.1:${port}${where}`, { redirect: "manual", ...options });
  for (const [where, status, type] of [
    ["/demo/", 200, "text/html"],
    ["/demo/healthz", 200, "application/json"],
    ["/demo/metrics", 200, "text/plain"],
    ["/demo/viewer/page.js", 200, "text/javascript"],
    ["/demo/viewer/nothing.js", 404],
    ["/demo/viewer/../README.md", 404],
    ["/demo/viewer/%2e%2e/README.md", 404],
    [`/demo/perspective/${PERSPECTIVE}/perspective.js`, 200, "text/javascript"],
    [`/demo/perspective/${PERSPECTIVE}/wasm/perspective-viewer.wasm`, 200, "application/wasm"],
    [`/demo/perspective/${PERSPECTIVE}/secret.js`, 404],
    ["/demo/perspective/4.3.0/perspective.js", 302],
    ["/demo/websocket", 400],
    ["/demo", 404],
    ["/", 404],
    ["/demo//", 404],
  ]) {
    const answer = await get(where);
    assert.strictEqual(answer.status, status, where);
    assert.strictEqual(answer.headers.get("x-content-type-options"), "nosniff");
    if (type) assert.ok(answer.headers.get("content-type").startsWith(type), where);
    await answer.arrayBuffer();
  }
  assert.strictEqual((await get("/demo/", { method: "POST" })).status, 405);
  const head = await get("/demo/healthz", { method: "HEAD" });
  assert.deepStrictEqual([head.status, await head.text()], [200, ""]);
  const health = await (await get("/demo/healthz?origin=null")).json();
  assert.deepStrictEqual([health.status, health.perspective, health.obstacle], ["ok", PERSPECTIVE, null]);
  const allowed = async (origin) =>
    (await get("/demo/healthz", { headers: { origin } })).headers.get("access-control-allow-origin");
  assert.strictEqual(await allowed("http://localhost:3000"), "http://localhost:3000");
  assert.strictEqual(await allowed("http://evil.example"), null);
});
