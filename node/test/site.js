/**
 * A server of the viewers without a database: hosts a table of stocks and updates it, as tests/engine_site.py.
 *
 *     node test/site.js PORT [--limit N] [--full N] [--rows N] [--interval MS]
 */
import { setTimeout as sleep } from "node:timers/promises";
import util from "node:util";
import { columnOf, toArrow } from "../src/lib/columns.js";
import { supervise } from "../src/lib/supervisor.js";
import { Viewers } from "../src/lib/viewers.js";
import { listen, makeHttpServer } from "../src/lib/web.js";

const TABLE = "stock_values";
const TICKERS = "AAPL.N AMZN.N QQQ.N NVDA.N TSLA.N FB.N MSFT.N TLT.N XIV.N YY.N CSCO.N GOOGL.N PCLN.N".split(" ");
const CLIENTS = "Homer Marge Bart Lisa Maggie Moe Lenny Carl Krusty".split(" ");
const number = (usual) => ({ type: "string", default: `${usual}` });
const flags = { limit: number(1000), full: number(250), rows: number(250), interval: number(250) };
const { values, positionals } = util.parseArgs({ options: flags, allowPositionals: true });
const [limit, full, rows, intervalMs] = Object.keys(flags).map((name) => Number(values[name]));
const TYPES = { timestamp: "TIMESTAMP", ticker: "NCHAR(10)", client: "NCHAR(10)", open: "FLOAT", high: "FLOAT" };
Object.assign(TYPES, { low: "FLOAT", close: "FLOAT", volume: "INT UNSIGNED", date: "TIMESTAMP" });
const COLUMNS = Object.entries(TYPES).map(([name, type]) => columnOf(name, type, "ms", false, name === "date"));

function makeRows(count) {
  const now = Date.now();
  const prices = () => Array.from({ length: 4 }, () => Math.random() * 500);
  const row = (_, k) => [now + k, TICKERS[k % 13], CLIENTS[k % 9], ...prices(), k, now];
  return toArrow(
    Array.from({ length: count }, row).map((values) => ({ values })),
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
      const table = await engine.table(makeRows(full), { name: TABLE, limit });
      for (state.status = "ok"; !isStopped; await sleep(intervalMs)) {
        if (rows) await table.update(makeRows(rows));
        state.rows += rows;
      }
    }
    feed().catch((error) => isStopped || fail(error));
    if (!server) {
      server = makeHttpServer({ tables: [{ title: TABLE, health: () => state }], viewers, place });
      viewers.listenTo(server, "/websocket");
      listen(server, Number(positionals[0]), "127.0.0.1");
    }
    return () => {
      isStopped = true;
    };
  },
  { maxMemoryMb: 1024 },
);
process.exit(status);
