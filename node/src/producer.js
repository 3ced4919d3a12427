#!/usr/bin/env node
/**
 * Inserts random rows into TDengine every 250 ms, through its REST interface.
 *
 *     node src/producer.js [--dataset stocks|meters] [--dsn DSN] [--interval MS] [--rows N]
 *
 * A batch is kept until TDengine has confirmed it, and sent again with the same timestamps when that fails: stored once.
 */

import { batches } from "./lib/clock.js";
import { makeDatabase, makeTable, outboxOptions, reset } from "./lib/making.js";
import { literal, quoted } from "./lib/names.js";
import { producerOptions } from "./lib/options.js";
import { Outbox, Refused } from "./lib/outbox.js";
import { Random } from "./lib/random.js";
import { query } from "./lib/rest.js";
import { onStop } from "./lib/signals.js";

const TICKERS = "AAPL.N AMZN.N QQQ.N NVDA.N TSLA.N FB.N MSFT.N TLT.N XIV.N YY.N CSCO.N GOOGL.N PCLN.N".split(" ");
const CLIENTS = "Homer Marge Bart Lisa Maggie Moe Lenny Carl Krusty".split(" ");
const LOCATIONS = ["San Francisco", "Los Angeles", "San Diego", "San Jose", "Palo Alto"];
LOCATIONS.push("Campbell", "Mountain View", "Sunnyvale", "Santa Clara", "Cupertino");
const DAY_NS = 86_400n * 10n ** 9n;
const MOVE = 0.004; // of a price in one second, one standard deviation
const rounded = (value) => Math.round(value * 10_000) / 10_000; // as much as a FLOAT of such a size can hold

/** Trades, in a plain table. */
class Stocks {
  static database = "stocks";
  static table = "stocks_values";
  static columns = {
    timestamp: "TIMESTAMP",
    ticker: "NCHAR(10)",
    client: "NCHAR(10)",
    ...Object.fromEntries(["open", "high", "low", "close"].map((name) => [name, "FLOAT"])),
    volume: "INT UNSIGNED",
    date: "TIMESTAMP",
  };

  constructor(random) {
    this.random = random;
    this.usual = new Map(TICKERS.map((ticker) => [ticker, random.uniform(50, 350)])); // what a price wanders around
    this.price = new Map(this.usual);
  }

  /** Random trades as columns, one for each timestamp (ns, BigInt); every ticker's price is a random walk. */
  genData(stamps) {
    const data = { timestamp: stamps, ticker: [], client: [], open: [], high: [], low: [], close: [], volume: [] };
    // seconds between two trades of a ticker
    const stepS = ((Number(stamps.at(-1) - stamps[0]) / 1e9 + 0.001) * TICKERS.length) / stamps.length;
    for (let k = 0; k < stamps.length; k++) {
      const ticker = this.random.choice(TICKERS);
      const open = this.price.get(ticker);
      const back = 0.01 * stepS * Math.log(this.usual.get(ticker) / open);
      const close = open * Math.exp(this.random.normal(back, MOVE * Math.sqrt(stepS)));
      const spread = open * 0.3 * MOVE * this.random.next();
      this.price.set(ticker, close);
      data.ticker.push(ticker);
      data.client.push(this.random.choice(CLIENTS));
      data.open.push(rounded(open));
      data.high.push(rounded(Math.max(open, close) + spread));
      data.low.push(rounded(Math.min(open, close) - spread));
      data.close.push(rounded(close));
      data.volume.push(this.random.integer(10_000, 100_000));
    }
    return { ...data, date: stamps.map((stamp) => (stamp / DAY_NS) * DAY_NS) };
  }

  /** One INSERT of a batch. The same batch again overwrites itself: sent twice, stored once. */
  static insertSql(database, data, toUnits) {
    const names = Object.keys(Stocks.columns);
    const rows = data.timestamp.map((stamp, k) => {
      const { ticker, client, open, high, low, close, volume, date } = data;
      const texts = [ticker[k], client[k]].map(literal);
      return `(${[toUnits(stamp), ...texts, open[k], high[k], low[k], close[k], volume[k], toUnits(date[k])]})`;
    });
    return `INSERT INTO ${quoted(database)}.${quoted(Stocks.table)} (${names.map(quoted)}) VALUES ${rows.join(" ")}`;
  }
}

/** Readings of smart meters, in a supertable with one subtable a meter. */
class Meters {
  static database = "power";
  static table = "meters";
  static columns = { ts: "TIMESTAMP", current: "FLOAT", voltage: "INT", phase: "FLOAT" };
  static tags = { groupid: "INT", location: "BINARY(16)" };

  constructor(random) {
    this.random = random;
    const spans = { current: [5, 15], voltage: [205, 220], phase: [0.1, 0.5] };
    this.usual = LOCATIONS.map(() => Object.values(spans).map((span) => random.uniform(...span)));
    this.level = this.usual.map((values) => [...values]); // of current, voltage and phase, by meter
  }

  /** Random readings as columns, one for each timestamp (ns, BigInt); the meters take turns, each value wanders. */
  genData(stamps) {
    const data = { ts: stamps, meter: [], current: [], voltage: [], phase: [] };
    for (let k = 0; k < stamps.length; k++) {
      const meter = k % LOCATIONS.length;
      [0.05, 0.15, 0.002].forEach((step, j) => {
        const back = 0.01 * (this.usual[meter][j] - this.level[meter][j]);
        this.level[meter][j] += this.random.normal(back, step);
      });
      const [current, voltage, phase] = this.level[meter];
      data.meter.push(meter);
      data.current.push(rounded(Math.max(current, 0)));
      data.voltage.push(Math.min(Math.max(Math.round(voltage), 200), 225));
      data.phase.push(rounded(Math.max(phase, 0)));
    }
    return data;
  }

  /** One INSERT of a batch, each meter's rows under its subtable's name and tags. */
  static insertSql(database, data, toUnits) {
    const [columns, tags] = [Meters.columns, Meters.tags].map((part) => Object.keys(part).map(quoted));
    const parts = [...new Set(data.meter)].map((meter) => {
      const rows = [...data.ts.keys()].filter((k) => data.meter[k] === meter);
      const values = rows.map((k) => `(${[toUnits(data.ts[k]), data.current[k], data.voltage[k], data.phase[k]]})`);
      const target = `${quoted(database)}.d_${meter} USING ${quoted(database)}.${quoted(Meters.table)} (${tags})`;
      return `${target} TAGS (${meter}, ${literal(LOCATIONS[meter])}) (${columns}) VALUES ${values.join(" ")}`;
    });
    return `INSERT INTO ${parts.join(" ")}`;
  }
}

const DATASETS = { stocks: Stocks, meters: Meters };

async function main() {
  onStop(() => process.stdout.write("sent 0 rows in 0 batches\n", () => process.exit(0)));
  const args = producerOptions("Inserts random rows into TDengine every 250 ms.", DATASETS);
  const { dsn, database } = args;
  const Dataset = DATASETS[args.dataset];
  const dataset = new Dataset(new Random(args.seed));
  let unitNs = 1n; // of the database's timestamps

  /** Makes database and table when they are missing; the database's timestamp units per second. */
  async function connect() {
    if (args.reset) await reset(dsn, database, Dataset.table);
    args.reset = false;
    const unitsPerS = await makeDatabase(dsn, database, args["database-options"]);
    await makeTable(dsn, database, Dataset);
    unitNs = 10n ** 9n / unitsPerS;
    return unitsPerS;
  }

  const toUnits = (stamp) => stamp / unitNs;
  const insert = (data) => query(dsn, Dataset.insertSql(database, data, toUnits));
  const outbox = new Outbox({ ...outboxOptions(args), connect, insert });
  let refused = null;
  try {
    // at full intervals of the clock, until SIGINT or SIGTERM; a batch is kept until TDengine has confirmed it
    for await (const stamps of batches(outbox, args)) outbox.put(dataset.genData(stamps));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    refused = error;
  }
  process.exit(await outbox.close(refused)); // whatever is still on its way
}

await main();
