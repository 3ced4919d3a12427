/** What `load` imports; where its packages are not installed, the script ends with one line. */

import url from "node:url";
import { exit } from "./options.js";

export async function needs(load) {
  try {
    return await load();
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    return exit(
      1,
      `its packages are not installed: run npm ci in ${url.fileURLToPath(new URL("../..", import.meta.url))}`,
    );
  }
}
