/** Cuts an expression (ExprTK's language) into tokens, and finds the quotes that the engine would get wrong. */

const TOKEN = new RegExp(
  [
    /(?<space>[ \t\n\r\f\v]+)/,
    /(?<comment>\/\/[^\n]*|#[^\n]*|\/\*.*?\*\/)/,
    /(?<text>'(?:[^'\\]|\\.)*')/,
    /(?<column>"(?:[^"\\]|\\.)*")/,
    /(?<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)/,
    /(?<name>[A-Za-z_]\w*)/,
    /(?<symbol>:=|\+=|-=|\*=|\/=|%=|<=|>=|<>|!=|==|[-+*/%^=<>(){},;:?&|])/,
  ]
    .map(({ source }) => source)
    .join("|"),
  "sy",
);
// How the engine finds columns and texts, before it parses: it looks neither at comments nor at each other.
const ENGINE_CUTS = { column: /"[^\n]*?[^\\]"/g, text: /'[^\n]*?[^\\]'/g };

/** Why an expression is refused, for the user who wrote it, with the line and column where. */
export class ExpressionError extends Error {
  constructor(message, text = "", at = 0) {
    super(message);
    const before = text.slice(0, at);
    this.line = before.split("\n").length - 1;
    this.column = at - (before.lastIndexOf("\n") + 1);
  }
}

/** [{what, token, at}] without space and comments; `what` is a name of the groups above. */
function tokenize(text) {
  const [tokens, comments] = [[], []];
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at;
    const found = TOKEN.exec(text);
    if (!found) {
      const missing = {
        "'": "the text that begins here has no end",
        '"': "the column name that begins here has no end",
      };
      throw new ExpressionError(missing[text[at]] ?? `unexpected ${text[at]}`, text, at);
    }
    const what = Object.keys(found.groups).find((group) => found.groups[group] !== undefined);
    if (what === "comment") comments.push([at, TOKEN.lastIndex]);
    else if (what !== "space") tokens.push({ what, token: found[0], at });
  }
  checkCuts(text, tokens, comments);
  return tokens;
}

/** Refuses what the engine would cut elsewhere than we do; within a comment, it may cut as it likes. */
function checkCuts(text, tokens, comments) {
  let rest = text;
  for (const [kind, pattern] of Object.entries(ENGINE_CUTS)) {
    const spans = ([at, end]) => `${at} ${end}`;
    const ours = tokens
      .filter(({ what, token }) => what === kind && token.length > 2)
      .map(({ token, at }) => [at, at + token.length]);
    const engines = [...rest.matchAll(pattern)].map((found) => [found.index, found.index + found[0].length]);
    const [ourSpans, engineSpans] = [new Set(ours.map(spans)), new Set(engines.map(spans))];
    for (const span of [...ours, ...engines].sort((a, b) => a[0] - b[0])) {
      const same = ourSpans.has(spans(span)) && engineSpans.has(spans(span));
      if (!same && !comments.some(([first, last]) => first <= span[0] && span[1] <= last)) {
        throw new ExpressionError("Perspective doesn't understand this quote", text, span[0]);
      }
    }
    rest = rest.replace(pattern, (found) => "_".repeat(found.length));
  }
}

/** Goes through the tokens of an expression. */
export class Cursor {
  constructor(text) {
    this.text = text;
    this.tokens = [...tokenize(text), { what: "end", token: "", at: text.length }];
    this.at = 0;
  }

  peek(symbols, ahead = 0) {
    const { what, token } = this.tokens[this.at + ahead] ?? {};
    return ["symbol", "name"].includes(what) && symbols.includes(token.toLowerCase());
  }

  /** Whether the next token is one of these; then it is passed. */
  skip(...symbols) {
    const found = this.peek(symbols);
    this.at += Number(found);
    return found;
  }

  expect(symbol) {
    if (!this.skip(symbol)) this.fail(`${symbol} is expected here`);
  }

  fail(message, back = 0) {
    throw new ExpressionError(message, this.text, this.tokens[this.at - back].at);
  }
}
