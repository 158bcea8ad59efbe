import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { type Access, accessTo, type KubeTarget } from "./access.ts";
import { type Caller, callerOf, type KubeDeps } from "./call.ts";
import { type Ask, refusalOf } from "./errors.ts";
import { fieldManager, type Kube, type KubeObject, type Listed, type ObjectKind, type ObjectRef } from "./kube.ts";
import { followLog } from "./log.ts";
import { discovered, groupPath, knownResource, type Resource, unknownKind } from "./resource.ts";
import { isAllowed } from "./rights.ts";
import { watchObjects } from "./watch.ts";

/** The API of a cluster. Nothing is asked yet. Fails with `config` where none is named or its kubeconfig cannot be used. */
export async function openKube(target: KubeTarget, deps: KubeDeps): Promise<Kube> {
  const access = await accessTo(target);
  const caller = callerOf(access, deps);
  const api = { caller, resources: resourcesOf(caller, access) };
  return {
    where: access.where,
    namespace: access.namespace,
    get: (ref, signal) => getObject(api, ref, signal),
    list: (kind, which, signal) => listObjects(api, kind, which, signal),
    async create(manifest, signal) {
      const key = `${deps.clock.now().getTime().toString(36)}-${deps.clock.random().toString(36).slice(2)}`;
      return await createObject(api, manifest, key, signal);
    },
    async apply(manifest, { force = false }, signal) {
      const { namespace, name } = manifest.metadata;
      const ask = await about(api, "patch", { ...manifest, namespace, name }, signal);
      const query = { fieldManager, force: String(force) };
      // A namespace of a kind that has none is refused, and who applies a file cannot know which have one.
      const body = { ...manifest, metadata: { ...manifest.metadata, namespace: ask.namespace } };
      // JSON is YAML.
      return (await caller.json({ ...ask, query, contentType: "application/apply-patch+yaml", body }, signal)) as never;
    },
    async patch(ref, patch, signal) {
      const ask = await about(api, "patch", ref, signal);
      const { subresource } = patch;
      const path = subresource === undefined ? ask.path : `${ask.path}/${subresource}`;
      const content = patchBody(patch);
      return (await caller.json({ ...ask, ...content, path, subresource, query: { fieldManager } }, signal)) as never;
    },
    async delete(ref, { uid, propagation = "background" }, signal) {
      const ask = await about(api, "delete", ref, signal);
      const policy = `${propagation.slice(0, 1).toUpperCase()}${propagation.slice(1)}`;
      const preconditions = uid === undefined ? {} : { preconditions: { uid } };
      const body = { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy: policy, ...preconditions };
      // An earlier call whose answer was lost has deleted it.
      const settle = async (error: unknown) => {
        if (saysAbsent(error, ref.name)) return true;
        throw error;
      };
      return (await unlessMissing(ref.name, () => caller.json({ ...ask, body }, signal, settle))) !== undefined;
    },
    watch: (kind, { known, ...which }, signal) =>
      watchObjects(
        caller,
        async () => await about(api, "watch", { ...kind, ...which }, signal),
        { ...which, known },
        signal,
        () => listObjects(api, kind, which, signal),
      ),
    log: (pod, signal) => followLog(caller, pod, signal),
    allows: (right, signal) => isAllowed(caller, right, signal),
  };
}

interface Api {
  readonly caller: Caller;
  readonly resources: (kind: ObjectKind, signal: AbortSignal) => Promise<Resource>;
}

/** A kind's resource, as pgkit knows it or as the API's lists have it: each list is read once. */
function resourcesOf(caller: Caller, { where }: Access): Api["resources"] {
  const lists = new Map<string, unknown>();
  return async (kind, signal) => {
    const known = knownResource(kind);
    if (known !== undefined) return known;
    const path = groupPath(kind.apiVersion);
    try {
      if (!lists.has(path)) lists.set(path, await caller.json({ verb: "get", path }, signal));
    } catch (error) {
      throw isPgkitError(error, "kube-missing") ? unknownKind(kind, where) : error;
    }
    return discovered(kind, lists.get(path), where);
  };
}

interface About extends ObjectKind {
  readonly namespace?: string | undefined;
  readonly name?: string | undefined;
}

/** The call of a verb on one object, or on those of a kind. */
async function about(
  api: Api,
  verb: Ask["verb"],
  { namespace, name, ...kind }: About,
  signal: AbortSignal,
): Promise<Ask> {
  const resource = await api.resources(kind, signal);
  if (!resource.namespaced && namespace !== undefined) return await about(api, verb, { ...kind, name }, signal);
  if (resource.namespaced && namespace === undefined && verb !== "list" && verb !== "watch") {
    throw new PgkitError("kube-failed", `${kind.kind} ${name} has no namespace`, { hint: "name its namespace" });
  }
  const folder = namespace === undefined ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
  const isOne = name !== undefined && verb !== "list" && verb !== "watch" && verb !== "create";
  const end = isOne ? `/${encodeURIComponent(name)}` : "";
  return { verb, resource, namespace, name, path: `${groupPath(kind.apiVersion)}${folder}/${resource.plural}${end}` };
}

async function getObject<T extends KubeObject>(api: Api, ref: ObjectRef, signal: AbortSignal): Promise<T | undefined> {
  const ask = await about(api, "get", ref, signal);
  return (await unlessMissing(ref.name, () => api.caller.json(ask, signal))) as T | undefined;
}

/** `undefined` where the API says that the object of this name is not there: not where it does not know the path. */
async function unlessMissing<T>(name: string, call: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call();
  } catch (error) {
    if (saysAbsent(error, name)) return undefined;
    throw error;
  }
}

function saysAbsent(error: unknown, name: string): boolean {
  const refusal = refusalOf(error);
  return refusal?.code === 404 && refusal.reason === "NotFound" && refusal.name === name;
}

/** Small enough for Secrets and manifests of a megabyte each to come in time. */
const pageObjects = "100";

async function listObjects<T extends KubeObject>(
  api: Api,
  kind: ObjectKind,
  { labels, ...which }: { namespace?: string | undefined; name?: string | undefined; labels?: string | undefined },
  signal: AbortSignal,
): Promise<Listed<T>> {
  const ask = await about(api, "list", { ...kind, ...which }, signal);
  const fields = which.name === undefined ? undefined : `metadata.name=${which.name}`;
  const objects: T[] = [];
  let next: string | undefined;
  for (;;) {
    const query = { limit: pageObjects, continue: next, labelSelector: labels, fieldSelector: fields };
    let page: ListAnswer<T>;
    try {
      page = (await api.caller.json({ ...ask, query }, signal)) as ListAnswer<T>;
    } catch (error) {
      // The moment that the pages before were of is forgotten (410): only a new list is one of one moment.
      if (refusalOf(error)?.code !== 410 || next === undefined) throw error;
      return await listObjects(api, kind, { labels, ...which }, signal);
    }
    // In a list the objects themselves do not say what they are.
    for (const each of page.items ?? []) objects.push({ ...each, apiVersion: kind.apiVersion, kind: kind.kind });
    next = page.metadata.continue || undefined;
    if (next === undefined) return { objects, resourceVersion: page.metadata.resourceVersion };
  }
}

interface ListAnswer<T> {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items?: readonly T[] | null;
}

/** Says of an object which call made it, so that a call whose answer was lost knows its own. */
const createdBy = "pgkit.dev/created-by-call";

async function createObject<T extends KubeObject>(
  api: Api,
  manifest: Parameters<Kube["create"]>[0],
  key: string,
  signal: AbortSignal,
): Promise<T> {
  const { metadata } = manifest;
  const ask = await about(api, "create", { ...manifest, namespace: metadata.namespace, name: metadata.name }, signal);
  const annotations = { ...metadata.annotations, [createdBy]: key };
  const body = { ...manifest, metadata: { ...metadata, annotations } };
  const settle = async (error: unknown) => {
    if (refusalOf(error)?.reason !== "AlreadyExists") throw error;
    const { apiVersion, kind } = manifest;
    const found = await getObject(
      api,
      { apiVersion, kind, namespace: metadata.namespace, name: metadata.name },
      signal,
    );
    if (found?.metadata.annotations?.[createdBy] !== key) throw error;
    return found;
  };
  return (await api.caller.json({ ...ask, query: { fieldManager }, body }, signal, settle)) as T;
}

function patchBody(patch: Parameters<Kube["patch"]>[1]): Pick<Ask, "contentType" | "body"> {
  const { resourceVersion } = patch;
  if ("json" in patch) {
    const path = "/metadata/resourceVersion";
    const test = resourceVersion === undefined ? [] : [{ op: "replace", path, value: resourceVersion }];
    return { contentType: "application/json-patch+json", body: [...test, ...patch.json] };
  }
  const { metadata, ...rest } = patch.merge as { metadata?: object };
  const condition = resourceVersion === undefined ? {} : { resourceVersion };
  const body = { ...rest, metadata: { ...metadata, ...condition } };
  return { contentType: "application/merge-patch+json", body };
}
