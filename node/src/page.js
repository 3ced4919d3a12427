#!/usr/bin/env node
/**
 * Serves the page alone at http://localhost:3000, as any web server would; the rest comes from server.js at port 8080.
 *
 *     npm run dev              or: node src/page.js [PORT]
 */

import fs from "node:fs";
import http from "node:http";

const PAGE = new URL("../../prsp-viewer.html", import.meta.url);
const PATHS = ["/", "/prsp-viewer.html"];
const [given = "3000"] = process.argv.slice(2);
if (!/^\d{1,5}$/.test(given) || Number(given) > 65_535) {
  const isHelp = ["-h", "--help"].includes(given);
  process.stderr.write(isHelp ? "usage: node src/page.js [PORT]\n" : `page.js: '${given}' is no port\n`);
  process.exit(isHelp ? 0 : 2);
}
const port = Number(given);

const server = http.createServer((request, response) => {
  const isPage = PATHS.includes(request.url.split("?")[0]);
  const type = isPage ? "text/html; charset=utf-8" : "text/plain; charset=utf-8";
  response.writeHead(isPage ? 200 : 404, { "Content-Type": type, "Cache-Control": "no-cache" });
  response.end(isPage ? fs.readFileSync(PAGE) : "404 Not Found\n");
});

server.on("error", ({ code }) => {
  process.stderr.write(
    `page.js: can't listen on 127.0.0.1:${port} (${code}): node src/page.js PORT takes another one\n`,
  );
  process.exit(1);
});
server.listen(port, "127.0.0.1", () => process.stderr.write(`page at http://localhost:${server.address().port}/\n`));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
