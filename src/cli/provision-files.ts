import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Manifest } from "../kube/kube.ts";
import { PgkitError } from "../lib/errors.ts";

/**
 * The objects of a file, or of the YAML and JSON files of a folder by their names: documents in their order, members of Lists
 * as objects of their own, namespaces first. Fails with `config`, naming every document that is no object.
 */
export async function readManifests(path: string): Promise<Manifest[]> {
  const files = await filesOf(path);
  const problems: string[] = [];
  const manifests: Manifest[] = [];
  for (const file of files) {
    for (const found of await documentsOf(file)) {
      if ("wrong" in found) problems.push(`${file}: ${found.wrong}`);
      else manifests.push(found.manifest);
    }
  }
  if (problems.length === 0 && manifests.length === 0) problems.push(`${path}: there is no object in it`);
  if (problems.length > 0) {
    throw new PgkitError("config", `the manifests cannot be read: ${problems.join("; ")}`, {
      hint: "name a YAML or JSON file, or a folder of such, as kubectl apply -f takes them",
    });
  }
  const isFirst = ({ kind }: Manifest) => kind === "Namespace";
  return [...manifests.filter(isFirst), ...manifests.filter((each) => !isFirst(each))];
}

async function filesOf(path: string): Promise<string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const names = (await readdir(path)).filter((name) => /\.(ya?ml|json)$/.test(name));
    return names.sort().map((name) => join(path, name));
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

type Found = { readonly manifest: Manifest } | { readonly wrong: string };

async function documentsOf(file: string): Promise<Found[]> {
  const { parseAllDocuments } = await import("yaml");
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw unreadable(file, cause);
  });
  const documents = parseAllDocuments(text);
  if (!Array.isArray(documents)) return [];
  return documents.flatMap((document): Found[] => {
    const [error] = document.errors;
    // The message goes on with the lines around, which may be those of a Secret.
    if (error !== undefined) return [{ wrong: error.message.split("\n")[0] ?? error.message }];
    return objectsOf(document.toJS());
  });
}

/** An empty document is nothing: between two `---`, or one of comments. */
function objectsOf(value: unknown): Found[] {
  if (value === null || value === undefined) return [];
  if (!isTree(value)) return [{ wrong: "a document is no object" }];
  const { apiVersion, kind, items, metadata } = value;
  if (typeof apiVersion !== "string" || typeof kind !== "string")
    return [{ wrong: "an object has no apiVersion or kind" }];
  if (kind === "List" && Array.isArray(items)) return items.flatMap(objectsOf);
  if (apiVersion.startsWith("kustomize.config.k8s.io/")) {
    return [{ wrong: `a ${kind} is for kubectl kustomize, whose output can be applied` }];
  }
  if (!isTree(metadata) || typeof metadata["name"] !== "string") return [{ wrong: `a ${kind} has no metadata.name` }];
  return [{ manifest: { ...value, apiVersion, kind, metadata: { ...metadata, name: metadata["name"] } } }];
}

function isTree(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function unreadable(path: string, cause: unknown): PgkitError {
  const why = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
  return new PgkitError("config", `the manifests in ${path} cannot be read: ${why}`, {
    hint: "is the path of --provision right?",
    cause,
  });
}
