/** Reads TDengine: describes a table, reads its rows, counts them; errors in words. */

import { columnOf, shownNames, TBNAME, UNITS_PER_S } from "./columns.js";
import { literal, quoted } from "./names.js";
import { query, TDengineError, UnansweredError } from "./rest.js";
import { floorDivide } from "./times.js";

const NO_TIME = "0x2669"; // "WINDOW is not supported in system table query"
const KEY_NOTES = ["COMPOSITE KEY", "PRIMARY KEY"];

/**
 * A table, supertable or subtable of TDengine: its columns as DESCRIBE names them, and counts of its rows.
 *
 * Times are seconds since 1970, UTC. `created` changes when the table was dropped and made again. dates: names of
 * TIMESTAMP columns that stand for calendar dates.
 */
export class Table {
  constructor(dsn, { database, name, title = name, dataset = null, dates = [] }) {
    Object.assign(this, { dsn, database, table: name, title, dataset, dates });
    this.name = `${quoted(database)}.${quoted(name)}`;
    this.columns = [];
    this.isSupertable = false;
    this.isGuarded = false; // once a value was met that REST can't hold: NaN, infinity
    this.unitsPerS = 0n; // of the time column's integers
    this.identity = "";
  }

  toString() {
    return `${this.database}.${this.table}`;
  }

  /** Reads columns, key and precision; true when they differ from before. TDengineError when there is no such table. */
  async describe() {
    const described = await query(this.dsn, `DESCRIBE ${this.name}`);
    if (described[0][1] !== "TIMESTAMP") throw new TDengineError(NO_TIME, `${this} is a system table`);
    const createdOf = (view, column) =>
      query(
        this.dsn,
        `SELECT create_time FROM information_schema.${view} WHERE db_name = ${literal(this.database)} ` +
          `AND ${column} = ${literal(this.table)}`,
      );
    let created = await createdOf("ins_stables", "stable_name");
    const isSupertable = created.length > 0;
    if (!isSupertable) created = await createdOf("ins_tables", "table_name");
    const named = `FROM information_schema.ins_databases WHERE name = ${literal(this.database)}`;
    const [[precision] = []] = await query(this.dsn, `SELECT \`precision\` ${named}`);
    if (!precision || !created.length) throw new TDengineError("0x2603", `${this} was dropped while it was described`);
    const keys = described.filter((row) => KEY_NOTES.includes(row[3])).map(([name]) => name);
    const subtable = isSupertable ? [TBNAME] : [];
    const names = described.map(([name]) => name);
    const shown = shownNames(
      names,
      subtable.map(({ name }) => name),
    );
    const columns = described.map(([name, type]) => {
      const column = columnOf(name, type, precision, keys.includes(name), this.dates.includes(name));
      return { ...column, name: shown.get(name) };
    });
    columns.push(...subtable);
    const identity = JSON.stringify([described, created, isSupertable, precision]);
    const hasChanged = identity !== this.identity;
    // what tells two rows apart: the time, a composite key, and in a supertable the subtable
    const places = [...keys.map((name) => names.indexOf(name)), ...subtable.map(() => names.length)];
    Object.assign(this, { columns, places, isSupertable, identity, unitsPerS: UNITS_PER_S[precision] });
    this.time = quoted(described[0][0]);
    this.timeName = columns[0].name;
    this.makeSelect();
    return hasChanged;
  }

  makeSelect() {
    const expressions = this.columns.map(({ expression, guarded }) => (this.isGuarded && guarded) || expression);
    this.select = expressions.join(", ");
  }

  /** The rows of a SELECT of all columns: {time: BigInt, second, key, values}; equal keys are the same row. */
  async rows(sql) {
    const { unitsPerS, places } = this;
    const found = await query(this.dsn, sql).catch((error) => {
      this.isGuarded ||= error instanceof UnansweredError;
      this.makeSelect(); // for the next try
      throw error;
    });
    return found.map((values) => {
      const time = BigInt(values[0]);
      const key = places.length ? [values[0], ...places.map((place) => values[place])].join("\0") : String(values[0]);
      return { time, second: floorDivide(time, unitsPerS), key, values };
    });
  }

  /** The database's clock in seconds. */
  async now() {
    const [[now]] = await query(this.dsn, "SELECT CAST(NOW() AS BIGINT)"); // of no table: in milliseconds
    return now / 1000;
  }

  /** A condition: first <= time < end, both whole seconds or null. */
  between(first = null, end = null) {
    const bound = (sign, at) => (at === null ? [] : [`${this.time} ${sign} ${BigInt(at) * this.unitsPerS}`]);
    return [...bound(">=", first), ...bound("<", end)].join(" AND ") || `${this.time} IS NOT NULL`;
  }

  /** How many rows are stored with first <= time < end. */
  async count(first = null, end = null) {
    const [[count] = [0]] = await query(
      this.dsn,
      `SELECT COUNT(*) FROM ${this.name} WHERE ${this.between(first, end)}`,
    );
    return Number(count);
  }

  /** Map of k to the rows stored with k * step <= time < (k + 1) * step, for those with any; step in seconds. */
  async counts(step, first = null, end = null) {
    const found = await query(
      this.dsn,
      `SELECT CAST(_wstart AS BIGINT), COUNT(*) FROM ${this.name} WHERE ${this.between(first, end)} INTERVAL(${step}s)`,
    );
    const places = found.map(([start]) => Math.floor(floorDivide(BigInt(start), this.unitsPerS) / step));
    return new Map(places.map((place, k) => [place, Number(found[k][1])]));
  }

  /** What is wrong and what to do, in one line, for the log and the page. */
  explain({ code, away, message }) {
    if (code === "0x0357" || code === "0x0351") {
      return "TDengine refuses this user or password: check TDENGINE_DSN or --password-file";
    }
    if (message.startsWith("tls_ca")) {
      return "TDengine's TLS certificate can't be trusted: name your CA's file in the DSN, as ?tls_ca=ca.pem";
    }
    const start = this.dataset ? ": start producer.js, which makes it" : ": check --table; names are taken as given";
    if (code === "0x0388") return `TDengine has no database ${this.database}${start}`;
    if (code === "0x2603") return `TDengine has no table ${this}${start}`;
    if (code === NO_TIME) return `${this} is not a table with a time column: check --table`;
    if (away) return `TDengine does not answer: is it running? Retrying (${message})`;
    return `TDengine answered: ${message}`;
  }

  /** What /healthz says of the table itself. */
  health() {
    return {
      table: String(this),
      columns: Object.fromEntries(this.columns.map(({ name, kind }) => [name, kind])),
      time: this.timeName ?? null,
      supertable: this.isSupertable,
      dataset: this.dataset,
    };
  }
}
