// The page's address says which server, table and layout are shown.

const HOST = /^([\w.-]+|\[[\da-f:.]+\])(:\d+)?$/i;

/** Where the rows come from: what ?server= names, else `code`, the server that the page's modules came from. */
export function serverOf(href, code) {
  const { protocol, searchParams } = new URL(href);
  const named = searchParams.get("server");
  if (named === null) return new URL(code);
  const address = `${protocol === "https:" ? "https" : "http"}://${named}/`;
  if (!HOST.test(named) || !URL.canParse(address))
    throw new Error(`?server=${named} is not an address such as localhost:8080.`);
  return new URL(address);
}

/** The address of its WebSocket. */
export function socketOf(server) {
  const url = new URL("websocket", server);
  url.protocol = server.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** An address with other parameters: {name: value, or null for none}. */
export function changed(href, change) {
  const url = new URL(href);
  for (const [name, value] of Object.entries(change)) {
    if (value === null) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  return url.href;
}
