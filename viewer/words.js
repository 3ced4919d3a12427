// What the page says when something went wrong, and what to do about it, for how the page was opened.

/** How to name another server. */
function elsewhere({ protocol, search }) {
  if (new URLSearchParams(search).has("server")) return "check ?server= in this page's address";
  if (protocol === "file:") return "or add ?server=HOST:PORT to this page's address";
  return "it is where this page looks for it";
}

export function noAnswer(server, location) {
  return `No answer from ${server.href}: is perspective_server.py running there (${elsewhere(location)})? Trying again.`;
}

let hasWebGL; // found out once, by a context, of which a page can have a few: a new one may cost a chart its own

/** Why this browser draws nothing of a layout; "" when it does. */
export function lackOf({ plugin }) {
  if (plugin === "Datagrid") return "";
  hasWebGL ??= document.createElement("canvas").getContext("webgl2") !== null;
  if (hasWebGL) return "";
  return "This browser has no WebGL 2, which charts need: they stay empty, the grid works.";
}

/** Why there is no connection: of an Error with `code` and `wasOpen`. */
export async function lost(error, server) {
  const { code, wasOpen, message } = error;
  if (code === 0) return "The server has been silent for 5 s. Connecting again.";
  if (code === 1008) return "Connecting again.";
  if (code === 1012) return "The table is being made anew. Connecting again.";
  if (code === 1013)
    return "The server has as many viewers as --max-viewers allows, or this one reads too slowly. Trying again.";
  if (wasOpen) return `The connection was lost${message ? ` (${message})` : ""}. Connecting again.`;
  const { origin } = location;
  switch (await obstacle(server, origin)) {
    case "origin":
      return `The server does not permit pages of ${origin}: start it with --allow-origin ${origin}, or open ${server.href}.`;
    case "full":
      return "The server has as many viewers as --max-viewers allows. Trying again.";
    case null:
      return `The WebSocket at ${server.host} does not open, though this page may connect: is there a proxy in between? It must forward the Upgrade header (deploy/nginx.conf does).`;
    default:
      return "The WebSocket does not open: too many viewers (--max-viewers), this page's origin (--allow-origin), or a proxy.";
  }
}

/** What keeps pages of this origin from connecting: "origin", "full", null; undefined when the server does not say. */
async function obstacle(server, origin) {
  try {
    const url = new URL(`healthz?origin=${encodeURIComponent(origin)}`, server);
    const answer = await fetch(url, { signal: AbortSignal.timeout(5000), cache: "no-store" });
    return (await answer.json()).obstacle;
  } catch {
    return undefined;
  }
}

/** Whether an error comes from a connection that was lost, of which something else is said. */
export function isLost(error) {
  return /connection is closed/i.test(String(error?.message ?? error));
}

/** What is said when the server has closed the connection because of a request. */
export function closed({ message }) {
  return `The server closed the connection (${message}): tables can be looked at here, not changed.`;
}

/** What is said about what the server has refused. */
export function refused(error) {
  const [reason] = String(error?.message ?? error).split("\n");
  return `This was refused, and undone: ${reason.replace(/^(\w*Error: |Abort\(\): |\[\w+\] |Unknown error: |JsValue\()+/, "")}`;
}
