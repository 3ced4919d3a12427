/**
 * The server's one session with Perspective's engine, for all viewers: requests in its protocol, and their answers.
 *
 * Everything here runs in the engine's thread (engine-worker.js).
 */

import { bound, Counts, checkSize } from "./costs.js";
import { ExpressionError } from "./expression-tokens.js";
import { check } from "./expressions.js";
import { COLUMN_TYPES, decode, encode, Invalid, KINDS, make, parseResponse, pb, reply, tail } from "./requests.js";
import { checkConfig, Features } from "./view-config.js";

const NOTHING = Buffer.alloc(0);
const NUMBERS = ["INTEGER", "FLOAT"]; // which are one kind in expressions
const KIND_OF_TYPE = Object.fromEntries(
  Object.entries(COLUMN_TYPES).map(([name, type]) => [
    type,
    NUMBERS.includes(name) ? "number" : name === "STRING" ? "text" : name.toLowerCase(),
  ]),
);

/** What made the engine unusable: it is to be replaced. */
export class Broken extends Error {}

/** The result of a call into the engine; what that throws means that the engine has broken. */
async function guarded(call) {
  try {
    return await call();
  } catch (error) {
    throw new Broken(`${error?.name ?? "Error"}: ${error?.message ?? error}`);
  }
}

export class Session {
  /** server: a PerspectiveServer; onEvent(number, tail) gets what comes of the subscription of this number. */
  constructor(server, onEvent) {
    this.session = server.make_session(async (message) => this.receive(Buffer.from(message))); // a copy
    this.onEvent = onEvent;
    this.number = 0; // of our own requests: even, as subscriptions have odd ones
    this.asked = this.answered = this.features = null;
    this.schemas = new Map(); // table: Map of column to type
    this.views = new Map(); // name: {table, isSplit, size}
    this.counts = new Counts(this);
  }

  receive(message) {
    const { number, kind, body } = parseResponse(message);
    if (number === this.asked) this.answered = { kind, body };
    else this.onEvent(number, kind ? tail(kind, body) : NOTHING);
  }

  /** The body of the answer, bytes; Invalid when it is an error. */
  async ask(kind, entity = "", body = NOTHING) {
    this.number = (this.number + 2) % 2 ** 32;
    [this.asked, this.answered] = [this.number, null];
    await guarded(() => this.session.handle_request(reply(this.number, entity, kind, body)));
    const answered = this.answered;
    this.asked = null;
    if (answered === null) throw new Invalid("Perspective has not answered");
    if (answered.kind === "server_error") throw new Invalid(pb("ServerError").decode(answered.body).message);
    return answered.body;
  }

  /** Events come with this number, an odd one, from now on. */
  async subscribe(number, kind, entity, body) {
    await guarded(() => this.session.handle_request(reply(number, entity, kind, body)));
  }

  /** Map of column to type of a table. */
  async columns(table) {
    if (!this.schemas.has(table)) {
      const { schema } = pb("TableSchema").decode(await this.ask("table_schema", table));
      this.schemas.set(table, new Map((schema?.schema ?? []).map(({ name, type }) => [name, type])));
    }
    return this.schemas.get(table);
  }

  /** ValidatedExpressions of expressions, {name: text}: what is harmful does not reach the engine. */
  async validate(table, texts) {
    const kinds = new Map([...(await this.columns(table))].map(([name, type]) => [name, KIND_OF_TYPE[type]]));
    const [harmless, errors] = [{}, {}];
    for (const [name, text] of Object.entries(texts)) {
      try {
        check(text, kinds);
        harmless[name] = text;
      } catch (error) {
        if (!(error instanceof ExpressionError)) throw error;
        errors[name] = { error_message: error.message, line: error.line, column: error.column };
      }
    }
    const result = { expression_schema: {}, errors };
    if (Object.keys(harmless).length) {
      const content = make("Expressions", { column_to_expr: harmless });
      const found = pb("ValidatedExpressions").decode(await this.ask("table_validate_expr", table, content));
      Object.assign(result.expression_schema, found.expression_schema);
      Object.assign(result.errors, found.errors);
    }
    return { ...result, expression_alias: texts };
  }

  // Views

  async makeView(table, name, configBytes) {
    const config = decode(pb("ViewConfig"), configBytes);
    this.features ??= new Features(await this.ask("get_features"));
    const { expression_schema, errors } = await this.validate(table, config.expressions);
    for (const [expression, error] of Object.entries(errors))
      throw new Invalid(`${expression}: ${error.error_message}`);
    checkConfig(config, await this.columns(table), new Map(Object.entries(expression_schema)), this.features);
    await this.counts.checkView(table, config);
    await this.ask("table_make_view", table, make("MakeView", { view_id: name, config }));
    const isSplit = config.split_by.length > 0;
    this.views.set(name, { table, isSplit, size: null });
    try {
      checkSize(isSplit, await this.size(name));
    } catch (error) {
      if (error instanceof Invalid) await this.deleteView(name);
      throw error;
    }
  }

  async deleteView(name) {
    if (this.views.delete(name)) await this.ask("view_delete", name);
  }

  /** The view's Dimensions, asked once until they may have changed. */
  async size(name) {
    const view = this.views.get(name);
    view.size ??= await this.dimensions(name);
    return view.size;
  }

  async dimensions(name) {
    return pb("Dimensions").decode(await this.ask("view_dimensions", name));
  }

  /** The tail of the answer to what is asked about a view. */
  async look(name, kind, body) {
    if (!this.views.has(name)) throw new Invalid("This view has been deleted.");
    const content = decode(KINDS[kind], body);
    bound(kind, content, await this.size(name));
    return tail(kind, await this.ask(kind, name, encode(content)));
  }

  /** The same for what collapses or expands its rows. */
  async toggle(name, kind, body) {
    const answer = await this.look(name, kind, body);
    this.views.get(name).size = null;
    return answer;
  }

  async stopEvents(name, number) {
    if (this.views.has(name)) await this.ask("view_remove_on_update", name, make("Subscription", { id: number }));
  }

  /** After an update: deletes the views that have more columns now than they may have: [[name, why]]. */
  async deleteGrown() {
    const deleted = [];
    for (const view of this.views.values()) view.size = null;
    for (const [name] of [...this.views].filter(([, view]) => view.isSplit)) {
      try {
        checkSize(true, await this.size(name));
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        await this.deleteView(name);
        deleted.push([name, error.message]);
      }
    }
    return deleted;
  }

  /** Deletes all views of a table, and forgets its columns. */
  async dropViews(table) {
    for (const [name] of [...this.views].filter(([, view]) => view.table === table)) await this.deleteView(name);
    this.schemas.delete(table);
    this.counts.found.clear();
  }
}
