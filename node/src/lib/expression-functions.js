/** The functions of expressions: the kinds of arguments that the engine survives, and what is known of their results. */

const TEXT_COST = 10; // of a step with texts, others cost 1
const LONGEST_STRING = 32; // characters of a number or time as a text
const words = (text) => text.split(/\s+/);
const each = (names, ...signature) => names.map((name) => [name, signature]);

// Arguments as a regular expression over their kinds (n number, b boolean, t text, l text written out, d datetime,
// c date), and the kind of the result, * being that of the first argument.
export const FUNCTIONS = new Map([
  ...each(
    words(`abs acos acosh asin asinh atan atanh ceil cos cosh cot csc deg2grad deg2rad erf erfc exp expm1 floor frac
      grad2deg log log10 log1p log2 ncdf rad2deg round sec sgn sin sinc sinh sqrt tan tanh trunc`),
    "n",
    "n",
  ),
  ...each(["atan2", "hypot", "logn", "percent_of", "pow", "root", "roundn"], "nn", "n"),
  ...each(["avg", "max", "min", "mul", "sum"], "n+", "n"),
  ...each(["clamp", "iclamp"], "nnn", "n"),
  ...each(["integer", "float"], "[nbtldc]", "n"),
  ...each(["is_null", "is_not_null", "boolean"], "[nbtldc]", "b"),
  ...each(["upper", "lower"], "[tl]", "t"),
  ...each(["match", "match_all", "contains"], "[tl]l", "b"),
  ...each(["replace", "replace_all"], "[tl]l[tl]", "t"),
  ...each(["day_of_week", "month_of_year"], "[dc]", "t"),
  ["bucket", ["nn|[dc]l", "*"]],
  ["coalesce", ["n+|[tl]+|b+|d+|c+", "*"]],
  ["concat", ["[tl]+", "t"]],
  ["date", ["nnn", "c"]],
  ["datetime", ["n", "d"]],
  ["hour_of_day", ["[dc]", "n"]],
  ["inrange", ["nnn|ddd|ccc", "b"]],
  ["length", ["[tl]", "n"]],
  ["not", ["[nb]", "b"]],
  ["now", ["", "d"]],
  ["order", ["[tl]l+", "n"]],
  ["random", ["", "n"]],
  ["search", ["[tl]l", "t"]],
  ["string", ["[nbtldc]", "t"]],
  ["substring", ["[tl]nn?", "t"]],
  ["today", ["", "c"]],
]);
const BUCKET = /^(?:1?[smhDWMY]|(?:5|10|15|20|30)[sm]|(?:2|3|4|6|12)h|[2346]M|\d{1,3}Y)$/;
const KINDS = { n: "number", b: "boolean", t: "text", l: "text", d: "datetime", c: "date" };
export const kindName = (kind, other) => KINDS[kind] ?? other;

/**
 * What is known of a value before there is a row: kind (a letter as above; m: several), characters at most, literal.
 * isSure: a number that the engine gives its type; to others, as those of hypot() or 1/0, it gives any.
 */
export const makeValue = (kind, size = 0, literal = "", isSure = false) => ({ kind, size, literal, isSure });

/** [value, cost, characters of new texts] of a call; Error when it can't be made. */
export function call(name, parameters) {
  const [kinds, result] = FUNCTIONS.get(name);
  const given = parameters.map(({ kind }) => kind).join("");
  if (!new RegExp(`^(?:${kinds})$`).test(given)) {
    const named = parameters.map(({ kind }) => kindName(kind, "several kinds")).join(", ") || "nothing";
    throw new Error(`${name}() can't be used with ${named}`);
  }
  if (name === "bucket" && given !== "nn" && !BUCKET.test(parameters[1].literal)) {
    throw new Error("bucket() of a time needs s, m, h, D, W, M or Y, with a number that divides, as '5m'");
  }
  if (name === "bucket" && given === "nn" && !parameters[0].isSure) {
    throw new Error("bucket() of a calculated number needs float() around that, as bucket(float(1 / 3), 5)");
  }
  const kind = result === "*" ? given[0].replace("l", "t") : result;
  const size = kind === "t" ? lengthOf(name, parameters) : 0;
  const value = makeValue(kind, size, "", ["integer", "float", "bucket"].includes(name));
  return [value, kind === "t" || given.includes("t") ? TEXT_COST : 1, size];
}

/** The most characters that the text which a function makes can have. */
function lengthOf(name, parameters) {
  const sizes = parameters.map(({ size }) => size);
  if (name === "concat") return sizes.reduce((sum, size) => sum + size, 0);
  if (name.startsWith("replace")) {
    const [text, , replacement] = sizes;
    const again = (parameters[2].literal.split("\\").length - 1) * text; // \\1 is a part of the text once more
    return text + again + (name === "replace_all" ? text + 1 : 1) * replacement;
  }
  return Math.max(0, ...sizes) || LONGEST_STRING;
}
