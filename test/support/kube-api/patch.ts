import { isDeepStrictEqual } from "node:util";
import { isTree, type Obj, Refusal, type Tree } from "./objects.ts";

/** RFC 7396. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isTree(patch)) return patch;
  const result: Tree = isTree(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** RFC 6902, of its operations add, replace, remove and test. */
export function jsonPatch(object: Obj, operations: { op: string; path: string; value?: unknown }[]): Obj {
  for (const { op, path, value } of operations) {
    const parts = path
      .split("/")
      .slice(1)
      .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = parts.pop() ?? "";
    let at: unknown = object;
    for (const part of parts) at = (at as Tree | undefined)?.[part];
    const missing = () =>
      new Refusal(422, "Invalid", `the server rejected our request due to an error in our request: ${op} ${path}`);
    if (typeof at !== "object" || at === null) throw missing();
    const holder = at as Tree;
    if (op === "test") {
      if (!isDeepStrictEqual(holder[last], value)) throw missing();
    } else if (op === "add" || op === "replace") {
      if (op === "replace" && !(last in holder)) throw missing();
      if (Array.isArray(at) && last === "-") at.push(value);
      else holder[last] = value;
    } else if (op === "remove") {
      if (!(last in holder)) throw missing();
      if (Array.isArray(at)) at.splice(Number(last), 1);
      else delete holder[last];
    } else throw new Refusal(400, "BadRequest", `unknown operation ${op}`);
  }
  return object;
}
