/** One viewer: its views, which it may share with others, and its subscriptions. */

import { head, Invalid, make, pb, SUBSCRIBE, TOGGLES, tail, UNSUBSCRIBE, ViewNotFound } from "./requests.js";

const MAX_VIEWS = 32;
const MAX_SUBSCRIPTIONS = 128;
const ViewConfig = pb("ViewConfig");
const { GROUP_ROLLUP } = ViewConfig.lookup("GroupRollup").values;
const NO_PORT = make("Port", { port_id: 1 });
const NOTHING = Buffer.alloc(0);
let viewers = 0;

export class Viewer {
  /** send(message) sends bytes to the viewer, charge(ms) pays for the engine's time; shared: SharedViews. */
  constructor(shared, send, charge) {
    Object.assign(this, { shared, send, charge, id: ++viewers });
    this.views = new Map(); // by the viewer's names: {view, config}
    this.tables = new Set(); // whose views it has, or had
    this.subscriptions = new Map(); // number: {kind, entity, body}
  }

  /** The tail of an answer that another viewer got already, or undefined. */
  known({ kind, entity, body }) {
    if (Object.hasOwn(TOGGLES, kind) || Object.hasOwn(SUBSCRIBE, kind)) return undefined;
    return this.views.get(entity)?.view.answers.get(`${kind} ${body.toString("latin1")}`);
  }

  /** The tail of the answer to a request, null when it is a subscription; Invalid when there is none. */
  async answer(request) {
    const { kind, entity, content } = request;
    if (Object.hasOwn(SUBSCRIBE, kind) || (kind === "get_hosted_tables" && content.subscribe)) {
      return this.subscribe(request);
    }
    if (Object.hasOwn(UNSUBSCRIBE, kind)) {
      await this.unsubscribe(content.id);
      return tail(kind, NOTHING);
    }
    // the engine would keep each port for ever, and look at all of them at each update
    if (kind === "table_make_port") return tail(kind, NO_PORT);
    if (kind === "table_make_view") return this.makeView(request);
    if (kind === "table_validate_expr") return this.shared.validate(request, this.charge);
    if (!kind.startsWith("view_")) return this.shared.answerTable(request, this.charge);
    const { view } = this.named(entity);
    if (kind === "view_delete") return this.deleteView(entity);
    if (Object.hasOwn(TOGGLES, kind)) {
      checkToggle(this.named(entity).config, content);
      return this.shared.toggle(await this.ownView(entity), request, this.charge);
    }
    return this.shared.answer(view, request, this.charge);
  }

  named(name) {
    if (!this.views.has(name)) throw new ViewNotFound("View not found");
    return this.views.get(name);
  }

  async makeView({ kind, entity: table, content: { view_id: name, config: given } }) {
    const config = given ?? ViewConfig.create();
    if (!name || this.views.has(name)) fail("A view needs a name of its own.");
    if (this.views.size >= MAX_VIEWS) fail(`There are ${MAX_VIEWS} views already.`);
    this.tables.add(table);
    this.views.set(name, { view: await this.shared.join(table, config, this.charge), config });
    return tail(kind, make("MakeView", { view_id: name }));
  }

  /** A view that nobody else sees, in place of the shared one, with the same subscriptions. */
  async ownView(name) {
    const { view, config } = this.named(name);
    if (view.isOwn) return view;
    const own = await this.shared.split(view, config, this.charge);
    this.views.set(name, { view: own, config });
    for (const [number, { kind, entity, body }] of this.subscriptions) {
      if (kind !== "view_on_update" || entity !== name) continue;
      await this.shared.unsubscribe(view, this, number);
      await this.shared.subscribe(own, body, this, number, name);
    }
    await this.shared.leave(view);
    return own;
  }

  async deleteView(name) {
    const { view } = this.named(name);
    for (const [number, { kind, entity }] of [...this.subscriptions]) {
      if (entity !== name || !kind.startsWith("view_")) continue;
      await this.unsubscribe(number);
      if (kind === "view_on_delete") this.send(Buffer.concat([head(number, name), tail(kind, NOTHING)]));
    }
    this.views.delete(name);
    await this.shared.leave(view);
    return tail("view_delete", NOTHING);
  }

  async subscribe({ number, kind, entity, body }) {
    if (this.subscriptions.has(number)) fail("There is a subscription of this number.");
    if (this.subscriptions.size >= MAX_SUBSCRIPTIONS) fail(`There are ${MAX_SUBSCRIPTIONS} subscriptions already.`);
    if (kind === "get_hosted_tables") await this.shared.subscribeHosted(this, number);
    else if (kind === "view_on_update") {
      await this.shared.subscribe(this.named(entity).view, body, this, number, entity);
    }
    this.subscriptions.set(number, { kind, entity, body });
    return null;
  }

  async unsubscribe(number) {
    const { kind, entity } = this.subscriptions.get(number) ?? {};
    this.subscriptions.delete(number);
    if (kind === "get_hosted_tables") this.shared.unsubscribeHosted(this, number);
    else if (kind === "view_on_update" && this.views.has(entity)) {
      await this.shared.unsubscribe(this.views.get(entity).view, this, number);
    }
  }

  async close() {
    for (const number of [...this.subscriptions.keys()]) await this.unsubscribe(number);
    const views = [...this.views.values()];
    this.views.clear();
    for (const { view } of views) await this.shared.leave(view);
  }
}

/** The engine crashes on levels that there are not. */
function checkToggle({ group_rollup_mode: mode, group_by: groups }, { depth = 0 }) {
  if (mode !== GROUP_ROLLUP || !groups.length) fail("There is nothing to expand or collapse in this view.");
  if (depth > groups.length) fail(`There are no ${depth} levels.`);
}

function fail(text) {
  throw new Invalid(text);
}
