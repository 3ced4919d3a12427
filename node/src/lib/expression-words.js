/** The words and operators of expressions. */

import { FUNCTIONS } from "./expression-functions.js";

export const CONSTANTS = { true: "b", false: "b", pi: "n", epsilon: "n", inf: "n" };
const OTHER_WORDS = `var if else switch case default and nand or nor xor xnor mod null in like ilike while for repeat
  until break continue return swap`.split(/\s+/);
export const RESERVED = new Set([...FUNCTIONS.keys(), ...Object.keys(CONSTANTS), ...OTHER_WORDS]);
export const LETTERS = { number: "n", boolean: "b", text: "t", datetime: "d", date: "c" };
// from loose to tight, with the kinds that they take and make
export const BINARY = [
  [["or", "nor", "xor", "xnor", "|"], "nb", "b"],
  [["and", "nand", "&"], "nb", "b"],
  [["==", "=", "!=", "<>", "<", "<=", ">", ">="], "nbtdc", "b"],
  [["+", "-"], "n", "n"],
  [["*", "/", "%", "mod"], "n", "n"],
  [["^"], "n", "n"],
];
export const ASSIGNMENTS = [":=", "+=", "-=", "*=", "/=", "%="];
