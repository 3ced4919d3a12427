/**
 * Perspective's browser side: out of the Python package, where that is installed, else viewer and grid from npm.
 *
 * The Python package holds one module and one stylesheet, with all charts; npm has no charts for Perspective 5.
 */

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import url from "node:url";
import util from "node:util";
import zlib from "node:zlib";

export const ROOT = path.resolve(path.dirname(url.fileURLToPath(import.meta.url)), "../../..");
const require = createRequire(import.meta.url);
const versionOf = (name) => JSON.parse(fs.readFileSync(path.join(packageFolder(name), "package.json"), "utf8")).version;
export const PERSPECTIVE = versionOf("@perspective-dev/client");

const TYPES = {
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".wasm": "application/wasm",
};
const NPM_MODULE = `import "./npm/perspective-viewer.js";
import "./npm/perspective-viewer-datagrid.js";
export const ready = customElements.whenDefined("perspective-viewer");
`;
const gzip = util.promisify(zlib.gzip);

function packageFolder(name) {
  const folder = require.resolve
    .paths(name)
    .map((each) => path.join(each, name))
    .find((each) => fs.existsSync(each));
  if (!folder) throw Object.assign(new Error(`no package ${name}`), { code: "ERR_MODULE_NOT_FOUND" });
  return folder;
}

/** The folder of the Python package's browser files, of the same version, or undefined. */
function wheelFolder(environments) {
  const packages = environments.flatMap((each) => {
    const lib = path.join(each, "lib");
    const pythons = fs.existsSync(lib) ? fs.readdirSync(lib).filter((name) => name.startsWith("python3")) : [];
    return [...pythons.map((name) => path.join(lib, name, "site-packages")), path.join(each, "Lib/site-packages")];
  });
  const found = packages.find((each) => fs.existsSync(path.join(each, `perspective_python-${PERSPECTIVE}.dist-info`)));
  return found && path.join(found, "perspective/widget/static");
}

/** Reads Perspective's browser files by their name in the address, as "perspective.js". */
export class BrowserFiles {
  constructor(environments = [path.join(ROOT, "venv"), process.env.VIRTUAL_ENV ?? ""]) {
    const wheel = wheelFolder(environments.filter(Boolean));
    this.isWheel = wheel !== undefined;
    this.files = new Map(); // name: path
    if (wheel) {
      for (const type of ["js", "css"]) {
        this.files.set(`perspective.${type}`, path.join(wheel, `perspective-anywidget.${type}`));
      }
    } else {
      const [viewer, grid] = ["viewer", "viewer-datagrid"].map((name) => packageFolder(`@perspective-dev/${name}`));
      this.files.set("perspective.js", null); // NPM_MODULE
      this.files.set("perspective.css", path.join(viewer, "dist/css/themes.css"));
      this.files.set("npm/perspective-viewer.js", path.join(viewer, "dist/cdn/perspective-viewer.js"));
      this.files.set("npm/perspective-viewer-datagrid.js", path.join(grid, "dist/cdn/perspective-viewer-datagrid.js"));
      this.files.set("wasm/perspective-viewer.wasm", path.join(viewer, "dist/wasm/perspective-viewer.wasm"));
    }
    this.read = new Map(); // "name" or "name gzipped": promise of bytes
  }

  /** {body, type} of a file, read and compressed once; undefined for any other name. */
  async get(name, gzipped) {
    if (!this.files.has(name)) return undefined;
    const key = gzipped ? `${name} gzipped` : name;
    if (!this.read.has(key)) this.read.set(key, this.load(name, gzipped));
    this.read.get(key).catch(() => this.read.delete(key)); // read again when it is asked for again
    return { body: await this.read.get(key), type: TYPES[path.extname(name)] };
  }

  async load(name, gzipped) {
    const file = this.files.get(name);
    const body = file ? await fs.promises.readFile(file) : Buffer.from(NPM_MODULE);
    return gzipped ? gzip(body, { level: 6 }) : body;
  }
}
