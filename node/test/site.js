/**
 * A server of the viewers without a database: hosts a table of stocks and updates it. For tests/test_node_security.py.
 *
 *     node test/site.js PORT
 */
import { setTimeout as sleep } from "node:timers/promises";
import { columnOf, toArrow } from "../src/lib/columns.js";
import { supervise } from "../src/lib/supervisor.js";
import { Viewers } from "../src/lib/viewers.js";
import { listen, makeHttpServer } from "../src/lib/web.js";

const [TABLE, LIMIT, ROWS, INTERVAL_MS] = ["stock_values", 1000, 250, 250];
const TYPES = { timestamp: "TIMESTAMP", ticker: "NCHAR(10)", client: "NCHAR(10)", open: "FLOAT", high: "FLOAT" };
Object.assign(TYPES, { low: "FLOAT", close: "FLOAT", volume: "INT UNSIGNED", date: "TIMESTAMP" });
const COLUMNS = Object.entries(TYPES).map(([name, type]) => columnOf(name, type, "ms", false, name === "date"));

function makeRows() {
  const now = Date.now();
  const prices = () => Array.from({ length: 4 }, () => Math.random() * 500);
  const row = (_, k) => [now + k, ["AAPL.N", "AMZN.N", "QQQ.N"][k % 3], ["Homer", "Marge"][k % 2], ...prices(), k, now];
  return toArrow(
    Array.from({ length: ROWS }, row).map((values) => ({ values })),
    COLUMNS,
  )[0];
}

class SiteViewers extends Viewers {
  health() {
    return { ...super.health(), pid: process.pid };
  }
}

const viewers = new SiteViewers({ maxViewers: 200, host: "127.0.0.1" });
const state = { status: "waiting", rows: 0 };
let server = null;

const status = await supervise(
  (engine, place, fail) => {
    let isStopped = false;
    viewers.use(engine, place.banned);
    async function feed() {
      const table = await engine.table(makeRows(), { name: TABLE, limit: LIMIT });
      for (state.status = "ok"; !isStopped; await sleep(INTERVAL_MS)) {
        await table.update(makeRows());
        state.rows += ROWS;
      }
    }
    feed().catch((error) => isStopped || fail(error));
    if (!server) {
      server = makeHttpServer({ tables: [{ title: TABLE, health: () => state }], viewers, place });
      viewers.listenTo(server, "/websocket");
      listen(server, Number(process.argv[2]), "127.0.0.1");
    }
    return () => {
      isStopped = true;
    };
  },
  { maxMemoryMb: 1024 },
);
process.exit(status);
