/** What the server is made of. */

export { Feed } from "./feed.js";
export { log, setLevel } from "./report.js";
export { supervise } from "./supervisor.js";
export { Table } from "./tdengine.js";
export { Viewers } from "./viewers.js";
export { listen, makeHttpServer } from "./web.js";
