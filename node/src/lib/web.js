/** HTTP beside the WebSocket: the page, its modules, Perspective's own browser files, /healthz and /metrics. */

import { createHash } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import path from "node:path";
import { BrowserFiles, PERSPECTIVE, ROOT } from "./browser-files.js";
import { CONTENT_TYPE, metricsOf } from "./metrics.js";
import { log } from "./report.js";

// The viewer's text filters have one inline handler, which makes them as wide as their text.
const FILTER_HANDLER = "this.parentNode.dataset.value=this.value";
const STATUSES = ["waiting", "stale", "incomplete", "ok"]; // the worst first
const MAX_BODY = 64 * 1024; // bytes of a request, none of which needs any
const WRITE_MS = 120_000; // the longest that a reader of one answer may take
const SPARE_DESCRIPTORS = 64; // kept for the database, files and pipes
const QUIET_MS = 60_000; // between two lines about connections that are too many
const LIMITS = {
  headersTimeout: 10_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 20_000,
  handshakeTimeout: 10_000,
  connectionsCheckingInterval: 5000,
};
const HOST = /^([\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?)$/;
const HEADERS = { "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache" };
const YEAR = "public, max-age=31536000, immutable"; // the address holds the version

/** The Content-Security-Policy of the page, which may open connections to these hosts ("" is none). */
export function policyOf(page, hosts) {
  const text = page.toString("utf8").replaceAll("\r\n", "\n"); // as browsers hash it
  const scripts = [...text.matchAll(/<script(?![^>]*\ssrc=)[^>]*>(.*?)<\/script>/gs)].map(([, script]) => script);
  const hash = (script) => `'sha256-${createHash("sha256").update(script).digest("base64")}'`;
  const sockets = hosts
    .filter((host) => HOST.test(host))
    .map((host) => ` ws://${host} wss://${host} http://${host} https://${host}`)
    .join("");
  return (
    "default-src 'none'; " +
    // blob: the browser's module holds others inside, which it imports so
    `script-src 'self' blob: 'wasm-unsafe-eval' 'unsafe-hashes' ${[FILTER_HANDLER, ...scripts].map(hash).join(" ")}; ` +
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; " +
    `connect-src 'self'${sockets}; ` +
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
  );
}

/** The object that /healthz shows; place.restarts: how often the engine was replaced. */
export function healthOf(tables, viewers, place) {
  const found = Object.fromEntries(tables.map((table) => [table.title, table.health()]));
  const states = tables.length ? Object.values(found).map(({ status }) => status) : ["waiting"];
  const status = STATUSES.find((each) => states.includes(each));
  return { status, perspective: PERSPECTIVE, tables: found, restarts: place.restarts, ...viewers.health() };
}

/** Answers what is not the WebSocket, under `prefix` ("" or as "/demo"); tables may grow. */
class Web {
  constructor({ tables, viewers, place, prefix = "", files = new BrowserFiles() }) {
    Object.assign(this, { tables, viewers, place, prefix, files });
  }

  /** Answers one request; errors of one line, no guessed types, known hosts only. */
  async answer(request, response) {
    const late = setTimeout(() => response.destroy(), WRITE_MS);
    response.on("close", () => clearTimeout(late));
    const { host } = request.headers;
    const isOurs = this.viewers.origins.knowsHost(host);
    const [where, query = ""] = request.url.split("?"); // as it came: no dots are resolved
    const parameters = new URLSearchParams(query);
    const path = where.startsWith(`${this.prefix}/`) ? where.slice(this.prefix.length) : "";
    const [, module] = /^\/viewer\/([a-z]+\.js)$/.exec(path) ?? [];
    const [, version, file] = /^\/perspective\/(?:(\d+\.\d+\.\d+)\/)?(.+)$/.exec(path) ?? [];
    let send;
    if (path === "/") send = () => this.sendPage(request, response, parameters);
    else if (path === "/healthz") send = () => this.sendHealth(request, response, parameters);
    else if (path === "/metrics") send = () => this.sendMetrics(response);
    else if (module) send = () => this.sendModule(request, response, module);
    else if (this.files.files.has(file)) send = () => this.sendPerspective(request, response, version, file);
    else if (path === "/websocket") send = () => fail(response, 400); // without an upgrade
    if (Number(request.headers["content-length"] ?? 0) > MAX_BODY) fail(response, 413);
    else if (!send) fail(response, 404);
    // a hostile name can be made to point at our address (DNS rebinding): its pages would be of our origin
    else if (!isOurs) fail(response, 403, "Unknown Host, see --allow-host");
    else if (!["GET", "HEAD"].includes(request.method)) fail(response, 405);
    else await send();
  }

  /** Lets the pages that may open the WebSocket read this answer, and no others. */
  allowed({ headers: { origin, host } }) {
    const headers = { Vary: "Origin, Accept-Encoding" };
    if (origin && this.viewers.origins.mayComeFrom(origin, host)) headers["Access-Control-Allow-Origin"] = origin;
    return headers;
  }

  async sendPage(request, response, parameters) {
    const server = parameters.get("server") ?? "";
    if (/[^\0-\x7f]/.test(server)) {
      fail(response, 400);
      return;
    }
    const page = await fs.promises.readFile(path.join(ROOT, "prsp-viewer.html"));
    const policy = policyOf(page, [request.headers.host ?? "", server]);
    send(response, 200, page, "text/html; charset=utf-8", { "Content-Security-Policy": policy });
  }

  async sendModule(request, response, name) {
    const body = await fs.promises.readFile(path.join(ROOT, "viewer", name)).catch(() => null);
    if (!body) fail(response, 404);
    else send(response, 200, body, "text/javascript; charset=utf-8", this.allowed(request));
  }

  async sendPerspective(request, response, version, name) {
    if (version !== PERSPECTIVE) {
      // none, or that of a page that was opened before an upgrade
      const headers = { ...this.allowed(request), Location: `${this.prefix}/perspective/${PERSPECTIVE}/${name}` };
      send(response, 302, "", "text/plain; charset=utf-8", headers);
      return;
    }
    const headers = { ...this.allowed(request), ETag: `"${PERSPECTIVE}"`, "Cache-Control": YEAR };
    if (request.headers["if-none-match"] === headers.ETag) {
      response.writeHead(304, headers).end();
      return;
    }
    const isGzipped = /\bgzip\b/.test(request.headers["accept-encoding"] ?? "");
    const { body, type } = await this.files.get(name, isGzipped);
    send(response, 200, body, type, { ...headers, ...(isGzipped ? { "Content-Encoding": "gzip" } : {}) });
  }

  sendHealth(request, response, parameters) {
    const found = healthOf(this.tables, this.viewers, this.place);
    const origin = parameters.get("origin"); // asked by a page that can't connect
    if (origin) found.obstacle = this.viewers.obstacle(origin, request.headers.host);
    send(response, 200, JSON.stringify(found), "application/json; charset=utf-8", this.allowed(request));
  }

  sendMetrics(response) {
    send(response, 200, metricsOf(healthOf(this.tables, this.viewers, this.place)), CONTENT_TYPE);
  }
}

function send(response, status, text, type, headers = {}) {
  const body = Buffer.isBuffer(text) ? text : Buffer.from(text); // a large file is not copied for each reader
  response.writeHead(status, { ...HEADERS, "Content-Type": type, "Content-Length": body.length, ...headers });
  response.end(response.req.method === "HEAD" ? undefined : body);
}

function fail(response, status, reason = http.STATUS_CODES[status]) {
  send(response, status, `${status} ${reason}\n`, "text/plain; charset=utf-8", { Connection: "close" });
}

/** An http or, with `tls` of tls.createSecureContext, https server of all this; options: those of Web. */
export function makeHttpServer(options, tls = null) {
  const web = new Web(options);
  const listener = (request, response) => {
    web.answer(request, response).catch(() => (response.headersSent ? response.destroy() : fail(response, 500)));
  };
  const server = tls ? https.createServer({ ...LIMITS, ...tls }, listener) : http.createServer(LIMITS, listener);
  server.timeout = 60_000; // of a connection that says nothing
  return server;
}

/** Resolves to the port, once it listens; --port 0 leaves it open. Connections beyond the descriptors are closed. */
export function listen(server, port, host) {
  process.report.excludeNetwork = true; // or names would be looked up
  const { soft } = process.report.getReport().userLimits?.open_files ?? {}; // Node has raised it as far as allowed
  if (soft > 0) server.maxConnections = Math.max(soft - SPARE_DESCRIPTORS, 16);
  let warnedAt = -QUIET_MS;
  function warn(reason) {
    if (performance.now() - warnedAt < QUIET_MS) return;
    warnedAt = performance.now();
    log.warning(`new connections are closed: ${reason}`);
  }
  server.on("drop", () => warn(`${server.maxConnections} are open`));
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      server.on("error", (error) => warn(error.code)); // of accepting
      resolve(server.address().port);
    });
  });
}
