/**
 * Which expressions (computed columns) the engine may be given: known functions, with arguments of the right kinds.
 *
 *     const kind = check("bucket(\"timestamp\", '1s')", new Map([["timestamp", "datetime"]]));
 *
 * ExpressionError when it is refused. Loops, arrays, texts that grow and deep brackets could stop the engine for
 * everyone. A value is a number, boolean, text, datetime or date. The language is ExprTK's, with Perspective's functions.
 */

import { call, FUNCTIONS, kindName, makeValue } from "./expression-functions.js";
import { Cursor, ExpressionError } from "./expression-tokens.js";
import { ASSIGNMENTS, BINARY, CONSTANTS, LETTERS, RESERVED } from "./expression-words.js";

const MAX_LENGTH = 4096; // characters of an expression
const MAX_LITERAL = 256; // characters of a text in it
const MAX_MADE = 4096; // characters of all texts that it makes of one row: the engine keeps each for good
const COLUMN_TEXT = 64; // characters that a column's text counts
const MAX_COST = 400; // of all steps for one row
const MAX_DEPTH = 7; // of brackets: the engine's stack is small, 20 overflow it
const MAX_FROM_THE_RIGHT = 12; // operators that group from the right, of which 300 do

const plain = (kind) => kind.replace("l", "t");

/** The kind of an expression's values; `columns` has the kinds of those that it may use, by name. */
export function check(text, columns) {
  if (text.length > MAX_LENGTH) throw new ExpressionError(`this has more than ${MAX_LENGTH} characters`);
  const { kind } = new Parser(text, columns).parse();
  if (kind === "m") throw new ExpressionError("its values are of different kinds: number, text, ...");
  return kindName(kind);
}

/** Goes through an expression as the engine would, with what is known of its values. */
class Parser extends Cursor {
  constructor(text, columns) {
    super(text);
    Object.assign(this, { columns, variables: new Map(), cost: 0, made: 0, depth: 0, fromTheRight: 0 });
  }

  parse() {
    const value = this.statements();
    if (this.tokens[this.at].what !== "end") this.fail("this is not expected here");
    return value;
  }

  step(cost = 1, made = 0) {
    this.cost += cost;
    this.made += made;
    if (this.cost > MAX_COST) this.fail("this takes too long for each row");
    if (this.made > MAX_MADE) this.fail("this makes texts that are too long");
  }

  /** What the engine's parser calls itself for, on its small stack. */
  groupFromTheRight() {
    this.fromTheRight += 1;
    if (this.fromTheRight > MAX_FROM_THE_RIGHT) this.fail("too many of ^, ?:, := and else");
  }

  nested(parse) {
    this.depth += 1;
    if (this.depth > MAX_DEPTH) this.fail("too many brackets within brackets");
    const value = parse();
    this.depth -= 1;
    return value;
  }

  statements() {
    let value = null;
    for (;;) {
      while (this.skip(";"));
      if (this.peek(["}"]) || this.tokens[this.at].what === "end") break;
      value = this.statement();
      const isEnd = this.peek([";", "}"]) || this.tokens[this.at].what === "end";
      if (!isEnd && this.tokens[this.at - 1].token !== "}") this.fail("this is not expected here");
    }
    return value ?? this.fail("there is nothing to calculate");
  }

  statement() {
    if (!this.skip("var")) return this.expression();
    const { what, token } = this.tokens[this.at];
    const name = token.toLowerCase();
    if (what !== "name" || RESERVED.has(name) || this.variables.has(name) || name.startsWith("column")) {
      this.fail("this can't be the name of a new variable");
    }
    this.at += 1;
    const value = this.skip(":=") ? this.expression() : makeValue("n");
    this.variables.set(name, makeValue(plain(value.kind), value.size));
    return value;
  }

  expression() {
    const { what, token } = this.tokens[this.at];
    const variable = what === "name" ? this.variables.get(token.toLowerCase()) : undefined;
    if (variable && this.peek(ASSIGNMENTS, 1)) return this.assignment(variable);
    const condition = this.binary();
    if (!this.skip("?")) return condition;
    this.groupFromTheRight();
    this.checkCondition(condition);
    const first = this.expression();
    this.expect(":");
    return this.either(first, this.expression());
  }

  assignment(variable) {
    const operator = this.tokens[this.at + 1].token;
    this.at += 2;
    this.groupFromTheRight();
    const value = this.expression();
    if (plain(value.kind) !== variable.kind || (operator !== ":=" && variable.kind !== "n")) {
      this.fail(`a variable stays of one kind, here ${kindName(variable.kind, "mixed")}`, 1);
    }
    this.step();
    variable.size = Math.max(variable.size, value.size);
    return makeValue(variable.kind, variable.size);
  }

  binary(level = 0) {
    if (level === BINARY.length) return this.unary();
    const [operators, takes, makes] = BINARY[level];
    let left = this.binary(level + 1);
    while (this.skip(...operators)) {
      if (operators.includes("^")) this.groupFromTheRight();
      const right = this.binary(level + 1);
      for (const { kind } of [left, right]) {
        if (!takes.includes(plain(kind)))
          this.fail(`a ${kindName(kind, "value of several kinds")} can't be used so`, 1);
      }
      this.step();
      left = makeValue(makes);
    }
    return left;
  }

  unary() {
    if (!this.skip("-", "+")) return this.primary();
    const value = this.nested(() => this.unary());
    if (value.kind !== "n") this.fail("only a number has a sign", 1);
    this.step();
    return value;
  }

  primary() {
    const { what, token } = this.tokens[this.at];
    this.at += 1;
    const name = token.toLowerCase();
    if (what === "number") return makeValue("n", 0, "", true);
    if (what === "text") {
      if (token.length > MAX_LITERAL) this.fail(`a text of more than ${MAX_LITERAL} characters`, 1);
      return makeValue("l", token.length - 2, token.slice(1, -1));
    }
    if (what === "column") {
      const kind = LETTERS[this.columns.get(token.slice(1, -1)) ?? this.fail(`there is no column ${token}`, 1)];
      return makeValue(kind, kind === "t" ? COLUMN_TEXT : 0, "", true);
    }
    if (token === "(") {
      const value = this.nested(() => this.expression());
      this.expect(")");
      return value;
    }
    if (name === "if") return this.nested(() => this.condition());
    if (name === "switch") return this.nested(() => this.switch());
    if (Object.hasOwn(CONSTANTS, name)) return makeValue(CONSTANTS[name]);
    if (this.variables.has(name)) return { ...this.variables.get(name) };
    if (FUNCTIONS.has(name)) return this.nested(() => this.function(name));
    return this.fail(token ? `${token} is not available here` : "something is missing at the end", 1);
  }

  function(name) {
    this.expect("(");
    const parameters = [];
    while (!this.skip(")")) {
      if (parameters.length) this.expect(",");
      parameters.push(this.expression());
    }
    let value, cost, made;
    try {
      [value, cost, made] = call(name, parameters);
    } catch (error) {
      this.fail(error.message, 1);
    }
    this.step(cost, made);
    return value;
  }

  checkCondition({ kind }) {
    if (!"nb".includes(kind)) this.fail("a condition is a boolean or a number", 1);
    this.step();
  }

  /** Behind `if`: (condition, value, other value), or (condition) value; else other value. */
  condition() {
    this.expect("(");
    this.checkCondition(this.expression());
    if (this.skip(",")) {
      const value = this.expression();
      this.expect(",");
      const other = this.expression();
      this.expect(")");
      return this.either(value, other);
    }
    this.expect(")");
    const value = this.branch();
    if (this.peek([";"]) && this.peek(["else"], 1)) this.at += 1;
    if (!this.skip("else")) return value;
    this.groupFromTheRight();
    return this.either(value, this.branch());
  }

  branch() {
    if (!this.skip("{")) return this.statement();
    const value = this.statements();
    this.expect("}");
    return value;
  }

  /** Behind `switch`: { case condition : value; ... default : value; } */
  switch() {
    this.expect("{");
    const values = [];
    while (this.skip("case")) {
      this.checkCondition(this.expression());
      this.expect(":");
      values.push(this.expression());
      this.expect(";");
    }
    this.expect("default");
    this.expect(":");
    const other = this.expression();
    this.expect(";");
    this.expect("}");
    return values.reduce((one, value) => this.either(one, value), other);
  }

  /** What is known when it is one of two values. Of two kinds, the engine would take one for the other. */
  either(one, other) {
    this.step();
    const kinds = [...new Set([plain(one.kind), plain(other.kind)])];
    return makeValue(kinds.length === 1 ? kinds[0] : "m", Math.max(one.size, other.size));
  }
}
