/** A geometry's bytes (well-known binary) as well-known text, exactly: TDengine's own text has six decimals only. */

const KINDS = ["", "POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON"];
KINDS.push("GEOMETRYCOLLECTION");

/** `POINT (1.5 2)` and the like, numbers as the shortest decimals that are the same double; null if it is none. */
export function wellKnownText(hex) {
  try {
    return read(new Cursor(Buffer.from(hex, "hex"))).join(" ");
  } catch (error) {
    if (error instanceof RangeError) return null; // beyond the bytes, of no known kind, or too deep
    throw error;
  }
}

class Cursor {
  constructor(bytes) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
  }

  begin() {
    this.isLittle = this.view.getUint8(this.at++) === 1;
  }

  whole() {
    this.at += 4;
    return this.view.getUint32(this.at - 4, this.isLittle);
  }

  number() {
    this.at += 8;
    return this.view.getFloat64(this.at - 8, this.isLittle);
  }
}

/** [kind, what stands behind it in the text] of the geometry that comes next. */
function read(cursor) {
  cursor.begin();
  const kind = KINDS[cursor.whole()];
  if (!kind) throw new RangeError("no kind of geometry");
  const point = () => [cursor.number(), cursor.number()];
  const pair = () => point().map(plain).join(" ");
  const parts = (part) => listed(cursor.whole(), part);
  if (kind === "POINT") {
    const [x, y] = point();
    return [kind, Number.isNaN(x) ? "EMPTY" : `(${plain(x)} ${plain(y)})`];
  }
  if (kind === "LINESTRING") return [kind, parts(pair)];
  if (kind === "POLYGON") return [kind, parts(() => parts(pair))];
  if (kind === "GEOMETRYCOLLECTION") return [kind, parts(() => read(cursor).join(" "))];
  const bare = (text) => (kind === "MULTIPOINT" ? text.replace(/[()]/g, "") : text);
  return [kind, parts(() => bare(read(cursor)[1]))];
}

function listed(count, part) {
  const texts = [];
  for (let k = 0; k < count; k++) texts.push(part()); // one by one: a wrong count ends at the end of the bytes
  return count ? `(${texts.join(", ")})` : "EMPTY";
}

/** Without an exponent, as Python's server shows it. */
function plain(number) {
  if (Object.is(number, -0)) return "-0";
  if (!String(number).includes("e")) return String(number);
  const [, sign, digits, exponent] = /^(-?)([\d.]+)e(.+)$/.exec(number);
  const significant = digits.replace(".", "");
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${significant}`;
  return sign + significant.padEnd(Number(exponent) + 1, "0");
}
