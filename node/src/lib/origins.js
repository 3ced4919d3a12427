/** Which pages may connect, and by which names this server may be called (DNS rebinding). */

import net from "node:net";
import os from "node:os";

const ORIGIN = /^https?:\/\/(([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d+)?)$/;
const HOST = /^([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d+)?$/;
const LOCAL = ["localhost", "127.0.0.1", "::1"];
const unbracketed = (name) => name.replace(/^\[|\]$/g, "");

export class Origins {
  constructor({ host, allowOrigins = [], fileOrigin = true, allowHosts = [] }) {
    this.allowed = new Set(allowOrigins.map((origin) => origin.replace(/\/+$/, "").toLowerCase()));
    this.fileOrigin = fileOrigin;
    const name = os.hostname().toLowerCase();
    const named = [...this.allowed].map((origin) => ORIGIN.exec(origin)?.[2]).filter(Boolean);
    const others = [host, ...allowHosts].map((each) => each.toLowerCase());
    this.names = new Set(["localhost", name, `${name}.local`, ...others, ...named.map(unbracketed)]);
  }

  /** Whether a request with this Host header means us: a name of ours, or an address. */
  knowsHost(host = "") {
    const found = HOST.exec(host.toLowerCase());
    return found !== null && this.isOurs(unbracketed(found[1]));
  }

  isOurs(name) {
    return net.isIP(name) > 0 || this.names.has(name.replace(/\.+$/, ""));
  }

  /** Whether a page of this origin, which called us by the Host header `host`, may connect. */
  mayComeFrom(origin, host = "") {
    const from = origin.toLowerCase();
    if (from === "null") return this.fileOrigin; // pages opened from disk
    if (this.allowed.has(from)) return true;
    const found = ORIGIN.exec(from);
    if (!found) return false;
    const name = unbracketed(found[2]);
    return LOCAL.includes(name) || (found[1] === host.toLowerCase() && this.isOurs(name));
  }
}
