/** TDengine's types as Arrow's: how each column is selected, and how its values are converted. */

import * as arrow from "@uwdata/flechette";
import { wellKnownText } from "./geometry.js";
import { quoted } from "./names.js";
import { floorDivide } from "./times.js";

export const UNITS_PER_S = { ms: 10n ** 3n, us: 10n ** 6n, ns: 10n ** 9n };
// Wider than TDengine's where the engine's sums overflow as rows leave a table with a limit (docs/engine-faults.md).
const INTEGERS = {
  TINYINT: arrow.int32(),
  SMALLINT: arrow.int32(),
  INT: arrow.int32(),
  "TINYINT UNSIGNED": arrow.int32(),
  "SMALLINT UNSIGNED": arrow.int32(),
};
const LONG_INTEGERS = { "INT UNSIGNED": arrow.int64(), BIGINT: arrow.int64(), "BIGINT UNSIGNED": arrow.uint64() };
const RESERVED = /^(psp_|__)/; // how names that the engine or its viewer use begin: their columns lose rows, or crash
const MOST = "1.7976931348623157e308"; // of all numbers
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const finite = (value) => (Number.isFinite(Number(value)) ? Number(value) : null); // DECIMAL comes as a text

/** VARCHAR comes as hexadecimal digits; null where it is not UTF-8. */
function decoded(hex) {
  try {
    return utf8.decode(Buffer.from(hex, "hex"));
  } catch {
    return null;
  }
}

/** The same, but rows must still be told apart by what is not UTF-8. */
const keyText = (hex) => decoded(hex) ?? `0x${hex}`;

const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/**
 * A column of a table, of a DESCRIBE row: {name, expression, type, convert(value), kind}; Error if its type is unknown.
 *
 * guarded: an expression without NaN and infinity. type is Arrow's, kind Perspective's name of it. isDate: a TIMESTAMP that stands for a calendar date, UTC.
 */
export function columnOf(name, described, precision, isKey = false, isDate = false) {
  const type = described.replace(/\(.*/, "").trim();
  const column = (kind, arrowType, convert = (value) => value, expression = quoted(name)) => {
    return { name, expression, type: arrowType, convert, kind };
  };
  if (type === "TIMESTAMP") {
    const unitsPerMs = UNITS_PER_S[precision] / 1000n;
    const toMs = (value) => floorDivide(BigInt(value), unitsPerMs); // as exact as Perspective's datetimes are
    const expression = `CAST(${quoted(name)} AS BIGINT)`;
    if (isDate) return column("date", arrow.dateDay(), toMs, expression);
    return column("datetime", arrow.timestamp(arrow.TimeUnit.MILLISECOND), toMs, expression);
  }
  if (Object.hasOwn(INTEGERS, type)) return column("integer", INTEGERS[type]);
  if (Object.hasOwn(LONG_INTEGERS, type)) return column("integer", LONG_INTEGERS[type], BigInt);
  if (type === "BOOL") return column("boolean", arrow.bool());
  if (type === "DECIMAL") return column("float", arrow.float64(), finite);
  if (["FLOAT", "DOUBLE"].includes(type)) {
    const convert = type === "FLOAT" ? (value) => finite(Math.fround(value)) : finite; // FLOAT: what TDengine holds
    const guarded = `CASE WHEN ${quoted(name)} BETWEEN -${MOST} AND ${MOST} THEN ${quoted(name)} END`;
    return { ...column("float", arrow.float64(), convert), guarded };
  }
  if (["VARCHAR", "BINARY"].includes(type)) {
    return column("string", arrow.utf8(), isKey ? keyText : decoded, `CAST(${quoted(name)} AS VARBINARY)`);
  }
  if (["NCHAR", "JSON"].includes(type)) return column("string", arrow.utf8(), asText);
  if (type === "VARBINARY") return column("string", arrow.utf8());
  if (type === "GEOMETRY") return column("string", arrow.utf8(), wellKnownText);
  throw new Error(`column ${name} is of type ${type}, which is not known here`);
}

export const TBNAME = { ...columnOf("tbname", "VARCHAR", "ms", true), expression: "CAST(tbname AS VARBINARY)" };

/** Map of the names of a table's columns to those in Perspective: `_` is appended to RESERVED ones and to `ours`. */
export function shownNames(names, ours = []) {
  const shown = new Map();
  const taken = new Set(names);
  for (const name of names) {
    let found = name;
    if (ours.includes(name) || RESERVED.test(name)) {
      while (taken.has(found)) found += "_";
      taken.add(found);
    }
    shown.set(name, found);
  }
  return shown;
}

/** [rows as Arrow in bytes, how many values became null as their column can't show them]; rows: {values}. */
export function toArrow(rows, columns) {
  let unshown = 0;
  const entries = columns.map(({ name, type, convert }, k) => {
    const converted = rows.map(({ values }) => {
      const value = values[k] === null ? null : convert(values[k]);
      unshown += Number(value === null && values[k] !== null);
      return value;
    });
    return [name, arrow.columnFromArray(converted, type)];
  });
  return [arrow.tableToIPC(arrow.tableFromColumns(entries), { format: "stream" }), unshown];
}
