/**
 * Views of equal shape are made once, and equal questions about them answered once, until their table changes.
 *
 * On every update the engine works some milliseconds for each grouped view, and for each read of it: a hundred viewers
 * of one layout would need more than it can do. A viewer that collapses or expands rows gets a view of its own.
 */

import { randomBytes } from "node:crypto";
import { describe, digest, encode, head, Invalid, make, pb, roomOf } from "./requests.js";

const FEW = 4; // views that are made also while an update takes long: one of thousands of columns does without any
const MAX_ANSWERS = 100; // that are kept of one view
const MAX_TEXT = 500; // characters of a request in the log
const BANNED = "The engine has crashed on this request: it is refused until the server is started anew.";

/** Answers as tails, true until a table changes; who asks meanwhile waits for the same answer. */
class Answers {
  constructor(engine) {
    this.engine = engine;
    [this.found, this.waiting] = [new Map(), new Map()];
  }

  get(key) {
    const { changes, tail } = this.found.get(key) ?? {};
    return changes === this.engine.changes ? tail : undefined;
  }

  /** ask() resolves to a tail. */
  async getOrAsk(key, ask) {
    const known = this.get(key);
    if (known) return known;
    if (!this.waiting.has(key)) {
      const asked = this.ask(key, ask).finally(() => this.waiting.delete(key));
      this.waiting.set(key, asked);
    }
    return this.waiting.get(key);
  }

  async ask(key, ask) {
    const before = this.engine.changes;
    const tail = await ask();
    if (this.found.size >= MAX_ANSWERS) this.found.clear();
    // an update in between may have come before or after the answer
    if (this.engine.changes === before) this.found.set(key, { changes: before, tail });
    return tail;
  }
}

/** A view of the engine's, and those who use it. */
class View {
  constructor(engine, table, config) {
    Object.assign(this, { table, config, users: 0, isOwn: false, gone: null });
    this.name = randomBytes(16).toString("base64url");
    this.shape = `${table}\0${config.toString("latin1")}`; // what it shows
    this.answers = new Answers(engine);
    this.updates = new Map(); // body of the subscription (its mode): its number
  }
}

/** All views of all viewers, by way of one session with the engine. */
export class SharedViews {
  /** banned: Map of the digests of requests that killed an engine. */
  constructor(engine, banned) {
    Object.assign(this, { engine, banned, number: 1, hosted: null });
    this.shapes = new Map(); // shared views by what they show
    this.views = new Map(); // all, by name
    this.tables = new Map(); // name of a table: Answers
    this.subscribers = new Map(); // number of a subscription: Map of "number of the viewer's" to {viewer, number, entity}
    engine.onEvent = (number, tail) => this.deliver(number, tail);
    engine.onGrown = (views) => this.dropGrown(views);
  }

  deliver(number, tail) {
    for (const each of [...(this.subscribers.get(number)?.values() ?? [])]) {
      each.viewer.send(Buffer.concat([head(each.number, each.entity), tail]));
    }
  }

  /** The result of a call that a viewer's request makes, unless such a request has killed an engine. */
  call(kind, context, content, charge, ...call) {
    const hand = { kind, digest: digest(kind, context, encode(content)), text: describe(content).slice(0, MAX_TEXT) };
    if (this.banned.has(hand.digest)) throw new Invalid(BANNED);
    return this.engine.request(hand, charge, ...call);
  }

  // Tables

  /** The tail of the answer to what is asked about a table, or about no table in particular. */
  async answerTable({ kind, entity, content, body }, charge) {
    if (!this.tables.has(entity)) {
      if (this.tables.size >= MAX_ANSWERS) this.tables.clear();
      this.tables.set(entity, new Answers(this.engine));
    }
    const ask = async () => this.call(kind, entity, content, charge, "askTable", kind, entity, body);
    return this.tables.get(entity).getOrAsk(`${kind} ${body.toString("latin1")}`, ask);
  }

  /** Bytes that a view of all columns of a table may take to describe; 0 when there is no such table. */
  async room(table, charge) {
    const content = pb("Nothing").create();
    const asked = { kind: "table_schema", entity: table, content, body: encode(content) };
    try {
      return roomOf(await this.answerTable(asked, charge));
    } catch (error) {
      if (!(error instanceof Invalid)) throw error;
      return 0;
    }
  }

  async validate({ kind, entity, content }, charge) {
    return this.call(kind, entity, content, charge, "validate", entity, { ...content.column_to_expr });
  }

  async subscribeHosted(viewer, number) {
    if (this.hosted === null) {
      this.hosted = this.nextNumber();
      await this.subscribeInEngine(this.hosted, "get_hosted_tables", "", make("HostedTables", { subscribe: true }));
    }
    this.add(this.hosted, viewer, number, "");
  }

  unsubscribeHosted(viewer, number) {
    this.subscribers.get(this.hosted)?.delete(`${viewer.id} ${number}`);
  }

  // Views

  /** A View that shows this; Invalid when it can't be made. */
  async join(table, config, charge) {
    const fresh = new View(this.engine, table, encode(config));
    const view = this.shapes.get(fresh.shape) ?? fresh;
    if (view === fresh) {
      this.shapes.set(view.shape, view);
      view.made = this.make(view, config, charge);
    }
    view.users += 1;
    try {
      await view.made;
    } catch (error) {
      view.users -= 1;
      throw error;
    }
    return view;
  }

  /** A View of the same, for one viewer alone. */
  async split(view, content, charge) {
    const own = Object.assign(new View(this.engine, view.table, view.config), { users: 1, isOwn: true });
    await this.make(own, content, charge);
    return own;
  }

  async make(view, content, charge) {
    try {
      if (this.engine.isSlow && this.views.size >= FEW)
        throw new Invalid("The server is at its limit: no more views for now.");
      this.views.set(view.name, view);
      const { table, name, config } = view;
      try {
        await this.call("table_make_view", table, content, charge, "makeView", table, name, config);
      } finally {
        // now, as updates that came first have cleared these; also when it failed: something may be left in the engine
        this.engine.young.add(digest("table_make_view", table, config));
      }
    } catch (error) {
      this.forget(view, error.message);
      throw error;
    }
  }

  forget(view, why) {
    view.gone ??= why;
    this.views.delete(view.name);
    if (this.shapes.get(view.shape) === view) this.shapes.delete(view.shape);
  }

  async leave(view) {
    view.users -= 1;
    if (view.users || !this.views.has(view.name)) return;
    this.forget(view, "This view has been deleted.");
    await this.engine.request({ kind: "view_delete" }, null, "deleteView", view.name);
  }

  /** What the engine's thread has deleted, as it had too many columns. */
  dropGrown(views) {
    for (const [name, why] of views) if (this.views.has(name)) this.forget(this.views.get(name), why);
  }

  /** Forgets all views and columns of a table; the engine's thread deletes them together with the table. */
  drop(table) {
    for (const view of [...this.views.values()]) {
      if (view.table === table) this.forget(view, "The table is hosted anew.");
    }
    this.tables.delete(table);
  }

  // What is asked about views

  async answer(view, { kind, content, body }, charge) {
    const ask = async () => this.call(kind, view.shape, content, charge, "look", view.name, kind, body);
    if (view.gone) throw new Invalid(view.gone);
    return view.answers.getOrAsk(`${kind} ${body.toString("latin1")}`, ask);
  }

  /** Collapses or expands rows of a view that one viewer has for itself. */
  async toggle(view, { kind, content, body }, charge) {
    if (view.gone) throw new Invalid(view.gone);
    try {
      return await this.call(kind, view.shape, content, charge, "toggle", view.name, kind, body);
    } finally {
      view.answers.found.clear();
    }
  }

  // Subscriptions

  nextNumber() {
    this.number += 2; // odd: the session's own requests have even ones
    return this.number;
  }

  add(ours, viewer, number, entity) {
    if (!this.subscribers.has(ours)) this.subscribers.set(ours, new Map());
    this.subscribers.get(ours).set(`${viewer.id} ${number}`, { viewer, number, entity });
  }

  /** The viewer hears of updates of the view; `body` says with what in them. */
  async subscribe(view, body, viewer, number, entity) {
    const mode = body.toString("latin1");
    const known = view.updates.get(mode);
    const ours = known ?? this.nextNumber();
    this.add(ours, viewer, number, entity);
    if (known !== undefined) return;
    view.updates.set(mode, ours);
    await this.subscribeInEngine(ours, "view_on_update", view.name, body);
  }

  async subscribeInEngine(number, kind, ...others) {
    await this.engine.request({ kind }, null, "subscribe", number, kind, ...others);
  }

  async unsubscribe(view, viewer, number) {
    for (const [mode, ours] of [...view.updates]) {
      const subscribers = this.subscribers.get(ours);
      if (!subscribers.delete(`${viewer.id} ${number}`) || subscribers.size) continue;
      view.updates.delete(mode);
      this.subscribers.delete(ours);
      await this.engine.request({ kind: "view_remove_on_update" }, null, "stopEvents", view.name, ours);
    }
  }
}
