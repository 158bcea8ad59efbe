import { isDeepStrictEqual } from "node:util";
import { isTree, type Obj, Refusal, type Tree } from "./objects.ts";

/** Who manages which leaves; a leaf is a path of JSON text, in which members of a list go by their names. */
export type Owners = { manager: string; operation: "Apply" | "Update"; paths: Set<string> }[];

/** After a manager has changed an object other than by apply: what it changed is its own, and nobody else's. */
export function changedBy(owners: Owners, manager: string, before: Obj, after: Obj): Owners {
  const old = leaves(before);
  const now = leaves(after);
  const changed = [...now].filter(([path, value]) => !isDeepStrictEqual(old.get(path), value)).map(([path]) => path);
  const gone = [...old.keys()].filter((path) => !now.has(path));
  if (changed.length === 0 && gone.length === 0) return owners;
  const rest = owners.map((each) => ({
    ...each,
    paths: new Set([...each.paths].filter((path) => !changed.includes(path) && !gone.includes(path))),
  }));
  const own = rest.find((each) => each.manager === manager && each.operation === "Update");
  if (own === undefined) rest.push({ manager, operation: "Update", paths: new Set(changed) });
  else for (const path of changed) own.paths.add(path);
  return rest.filter(({ paths }) => paths.size > 0);
}

/** Server-side apply: conflicts where another manages a leaf with another value, unless forced; drops what it no longer applies. */
export function ownersAfterApply(
  stored: { object: Obj; owners: Owners },
  manifest: Obj,
  manager: string,
  force: boolean,
): { object: Obj; owners: Owners } {
  const wanted = leaves(manifest);
  const present = leaves(stored.object);
  const others = stored.owners.filter((each) => each.manager !== manager || each.operation !== "Apply");
  const causes = [...wanted]
    .filter(([path, value]) => !isDeepStrictEqual(present.get(path), value))
    .flatMap(([path]) => others.filter(({ paths }) => paths.has(path)).map((each) => ({ path, each })))
    .map(({ path, each }) => ({
      reason: "FieldManagerConflict",
      message: `conflict with "${each.manager}"`,
      field: dotted(path),
    }));
  if (causes.length > 0 && !force) {
    const message = `Apply failed with ${causes.length} conflict(s): ${causes.map((each) => `${each.message}: ${each.field}`).join(", ")}`;
    throw new Refusal(409, "Conflict", message, { causes });
  }
  const changed = new Set(
    [...wanted].filter(([path, value]) => !isDeepStrictEqual(present.get(path), value)).map(([path]) => path),
  );
  const before =
    stored.owners.find((each) => each.manager === manager && each.operation === "Apply")?.paths ?? new Set();
  const dropped = [...before].filter((path) => !wanted.has(path) && !others.some(({ paths }) => paths.has(path)));
  const object = merge(structuredClone(stored.object), manifest) as Obj;
  for (const path of dropped) drop(object, JSON.parse(path));
  const rest = others.map((each) => ({
    ...each,
    paths: new Set([...each.paths].filter((path) => !changed.has(path))),
  }));
  const owners: Owners = [...rest, { manager, operation: "Apply", paths: new Set(wanted.keys()) }];
  return { object, owners: owners.filter(({ paths }) => paths.size > 0) };
}

export function renderOwners(owners: Owners, apiVersion: string): Tree[] {
  return owners.map(({ manager, operation, paths }) => {
    const fieldsV1: Tree = {};
    for (const path of paths) {
      let at = fieldsV1;
      for (const part of JSON.parse(path) as string[]) {
        const key = part.startsWith("[") ? `k:{"name":"${part.slice(1)}"}` : `f:${part}`;
        at[key] ??= {};
        at = at[key] as Tree;
      }
    }
    return { manager, operation, apiVersion, fieldsType: "FieldsV1", fieldsV1 };
  });
}

function leaves(object: Obj): Map<string, unknown> {
  const found = new Map<string, unknown>();
  const visit = (value: unknown, path: string[]) => {
    if (isTree(value) && Object.keys(value).length > 0) {
      for (const [key, each] of Object.entries(value)) visit(each, [...path, key]);
    } else if (isNamed(value)) {
      for (const each of value) visit(each, [...path, `[${each["name"]}`]);
    } else if (value !== undefined) found.set(JSON.stringify(path), value);
  };
  const { apiVersion: _, kind: __, metadata, status: ___, ...rest } = object;
  const { labels, annotations, ownerReferences, finalizers } = (metadata ?? {}) as Tree;
  visit({ ...rest, metadata: { labels, annotations, ownerReferences, finalizers } }, []);
  return found;
}

function isNamed(value: unknown): value is Tree[] {
  return (
    Array.isArray(value) && value.length > 0 && value.every((each) => isTree(each) && typeof each["name"] === "string")
  );
}

function merge(into: unknown, from: unknown): unknown {
  if (isTree(into) && isTree(from)) {
    for (const [key, value] of Object.entries(from)) into[key] = merge(into[key], value);
    return into;
  }
  if (isNamed(into) && isNamed(from)) {
    for (const each of from) {
      const at = into.findIndex(({ name }) => name === each["name"]);
      if (at === -1) into.push(each);
      else merge(into[at], each);
    }
    return into;
  }
  return structuredClone(from);
}

function drop(object: Tree, path: string[]): void {
  let at: unknown = object;
  for (const part of path.slice(0, -1)) {
    at = part.startsWith("[") ? (at as Tree[]).find(({ name }) => name === part.slice(1)) : (at as Tree)?.[part];
  }
  const last = path.at(-1) ?? "";
  if (isTree(at)) delete at[last];
}

function dotted(path: string): string {
  return (JSON.parse(path) as string[])
    .map((part) => (part.startsWith("[") ? `[name="${part.slice(1)}"]` : `.${part}`))
    .join("");
}
