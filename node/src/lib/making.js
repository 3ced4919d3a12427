/** Makes the database and table that the producer needs; what an outbox has to know of TDengine's errors. */

import { setTimeout as sleep } from "node:timers/promises";
import { literal, quoted, topicOf } from "./names.js";
import { query, TDengineError } from "./rest.js";

const UNITS_PER_S = { ms: 10n ** 3n, us: 10n ** 6n, ns: 10n ** 9n };
// a demo left running must not fill the disk
const OPTIONS = { PRECISION: "PRECISION 'ns'", KEEP: "KEEP 1d DURATION 1h" };
const TOPIC_MS = 6000; // tries to drop a topic that is in use: servers that end leave it free
const IN_USE = ["0x03EB", "0x03EF", "0x03ED"]; // a consumer, a rebalance after one has gone, another topic than ours

/** A table can't take what is to be inserted. */
class OtherColumns extends Error {}

/** Makes the database when it is missing, rows kept for a day unless the options say KEEP; its units per second. */
export async function makeDatabase(dsn, database, given) {
  const sql = `SELECT \`precision\` FROM information_schema.ins_databases WHERE name = ${literal(database)}`;
  if (!(await query(dsn, sql)).length) {
    // looked for first: who may use a database may not make one
    const usual = Object.keys(OPTIONS).filter((word) => !given.toUpperCase().includes(word));
    const options = [given, ...usual.map((word) => OPTIONS[word])].join(" ");
    await query(dsn, `CREATE DATABASE IF NOT EXISTS ${quoted(database)} ${options}`);
  }
  const [[precision] = []] = await query(dsn, sql);
  if (!precision) throw new TDengineError("0x0388", `database ${database} is not there yet`);
  return UNITS_PER_S[precision];
}

/** Makes the table, with tags the supertable, when it is missing. OtherColumns when it can't take these columns. */
export async function makeTable(dsn, database, { table, columns, tags = {} }) {
  const name = `${quoted(database)}.${quoted(table)}`;
  const list = (part) => Object.entries(part).map(([column, type]) => `${quoted(column)} ${type}`);
  const withTags = Object.keys(tags).length ? ` TAGS (${list(tags).join(", ")})` : "";
  await query(dsn, `CREATE TABLE IF NOT EXISTS ${name} (${list(columns).join(", ")})${withTags}`);
  const found = new Map(
    (await query(dsn, `DESCRIBE ${name}`)).map(([column, type, length]) => [column, { type, length }]),
  );
  const differ = [];
  for (const [column, type] of Object.entries({ ...columns, ...tags })) {
    const [, wanted, least = 0] = /^([A-Z ]+)(?:\((\d+)\))?$/.exec(type);
    const { type: is, length } = found.get(column) ?? { type: "missing", length: 0 };
    if (is === wanted.replace("BINARY", "VARCHAR") && length >= Number(least)) continue;
    differ.push(`${column} is ${is}${least && length ? `(${length})` : ""} where ${type} is sent`);
  }
  if (differ.length) throw new OtherColumns(`${database}.${table} has other columns: ${differ.join(", ")}`);
}

/** Drops the table with all its rows, and the topic that perspective_server.py --source subscribe made on it. */
export async function reset(dsn, database, table) {
  const topic = topicOf(database, table);
  const giveUpAt = performance.now() + TOPIC_MS;
  while ((await query(dsn, "SHOW TOPICS")).some(([name]) => name === topic)) {
    try {
      await query(dsn, `DROP TOPIC IF EXISTS ${quoted(topic)}`);
    } catch (error) {
      if (!IN_USE.includes(error.code)) throw error;
      if (performance.now() > giveUpAt) throw new OtherColumns(`--reset: ${await holderOf(dsn, topic)}`);
      await sleep(200);
    }
  }
  const sql = `SELECT name FROM information_schema.ins_databases WHERE name = ${literal(database)}`;
  if ((await query(dsn, sql)).length) await query(dsn, `DROP TABLE IF EXISTS ${quoted(database)}.${quoted(table)}`);
}

/** Who holds a topic, as far as TDengine says. */
async function holderOf(dsn, topic) {
  const sql = `SELECT consumer_group FROM information_schema.ins_subscriptions WHERE topic_name = ${literal(topic)}`;
  const groups = await query(dsn, sql).catch(() => []);
  const held = groups.length ? [...new Set(groups.flat())].sort().join(", ") : "a consumer";
  return `topic ${topic} is held by ${held}: end perspective_server.py --source subscribe, or what else is subscribed`;
}

/** What an Outbox has to know of TDengine. */
export function outboxOptions({ dsn, backlog }) {
  return {
    name: "producer.js",
    server: `TDengine at ${dsn.shown}`,
    backlog,
    isFault: (error) => error instanceof TDengineError || error instanceof OtherColumns,
    isTooOld: (error) => error.code === "0x060B",
    explain(error) {
      const { message, code } = error;
      if (code === "0x0357" || code === "0x0351") {
        return `${dsn.shown} refuses this user or password (${message}): check --dsn, TDENGINE_DSN or --password-file`;
      }
      if (message.startsWith("tls_ca")) {
        return `can't trust ${dsn.shown} (${message}): name your CA's file in the DSN, as ?tls_ca=ca.pem`;
      }
      if (!(error instanceof OtherColumns)) return null;
      if (message.startsWith("--reset: ")) return message;
      return `${message}; --reset makes the table anew, --database NAME uses another one`;
    },
  };
}
