import { randomUUID } from "node:crypto";
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { text } from "node:stream/consumers";
import type { Accounts, Request } from "./accounts.ts";
import type { Controllers } from "./controllers.ts";
import { answerFault, type Faults } from "./faults.ts";
import type { Logs } from "./logs.ts";
import { type Kind, type Obj, Refusal, type Tree, tree } from "./objects.ts";
import { jsonPatch, mergePatch } from "./patch.ts";
import type { Store } from "./store.ts";
import { serveWatch, type Watches } from "./watches.ts";

export interface Machinery {
  kinds: Kind[];
  store: Store;
  accounts: Accounts;
  logs: Logs;
  faults: Faults;
  watches: Watches;
  controllers: Controllers;
  /** `patch secrets litellm/litellm-db`, in the order in which they came. */
  requests: string[];
  /** The rest of lists whose first pages were given, by their continue tokens. */
  pages: Map<string, Obj[]>;
}

export function handler(machinery: Machinery): RequestListener {
  return (request, response) => {
    answer(machinery, request, response).catch((error) => {
      if (response.headersSent) return void response.destroy();
      const refusal =
        error instanceof Refusal ? error : new Refusal(500, "InternalError", String(error?.stack ?? error));
      send(response, refusal.code, refusal.status());
    });
  };
}

async function answer(machinery: Machinery, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(incoming.url ?? "/", "http://api");
  const { pathname, searchParams: query } = url;
  const user = machinery.accounts.authenticate(incoming.headers.authorization);
  const version = /^\/(?:api\/(v1)|apis\/([^/]+\/[^/]+))$/.exec(pathname);
  if (version !== null) return discovery(machinery, version[1] ?? version[2] ?? "", response);
  if (pathname === "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews") {
    return send(response, 201, review(machinery, user, JSON.parse(await text(incoming))));
  }
  const request = parse(machinery, incoming, url);
  const { verb, kind, subresource, namespace, name } = request;
  const resource = subresource === undefined ? kind.plural : `${kind.plural}/${subresource}`;
  machinery.requests.push(`${verb} ${resource} ${namespace === "" ? "" : `${namespace}/`}${name ?? ""}`);
  const fault = machinery.faults.take(verb, resource);
  if (fault !== undefined && "answer" in fault) return answerFault(response, fault);
  if (fault?.hangUp === "before") return void incoming.socket.destroy();
  machinery.accounts.authorize(user, request);
  const body = JSON.parse((await text(incoming)) || "{}");
  if (verb === "watch") return serveWatch(machinery, request, query, response);
  if (subresource === "log") return serveLog(machinery, request, query, response);
  const [code, result] = work(machinery, request, { body, query, type: incoming.headers["content-type"] ?? "" });
  if (fault !== undefined) return void incoming.socket.destroy();
  send(response, code, result);
}

/** `/apis/apps/v1/namespaces/litellm/deployments/api/scale` */
function parse({ kinds }: Machinery, { method }: IncomingMessage, { pathname, searchParams }: URL): Request {
  const parts =
    /^\/(?:api\/(v1)|apis\/([^/]+\/[^/]+))(?:\/namespaces\/([^/]+)(?=\/.))?\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(
      pathname,
    );
  const [, core, group, namespace = "", plural, name, subresource] = parts ?? [];
  const kind = kinds.find((each) => each.apiVersion === (core ?? group) && each.plural === plural);
  if (kind === undefined) throw new Refusal(404, "NotFound", "the server could not find the requested resource");
  const isList = name === undefined;
  const field = /^metadata\.name=(.*)$/.exec(searchParams.get("fieldSelector") ?? "")?.[1];
  const reading = searchParams.get("watch") === "true" ? "watch" : isList ? "list" : "get";
  const verbs: Record<string, string> = {
    GET: reading,
    POST: "create",
    PATCH: "patch",
    PUT: "update",
    DELETE: "delete",
  };
  const verb = verbs[method ?? ""] ?? "unknown";
  return { verb, kind, subresource, namespace, name: name ?? field };
}

/** Whether this account may do what it asks about. */
function review({ accounts }: Machinery, user: string, body: Tree): Tree {
  const { group, resource, subresource, verb, namespace, name } = tree(tree(body["spec"])["resourceAttributes"]);
  const kind = { apiVersion: "", kind: "", group: String(group), plural: String(resource), namespaced: true };
  const about = { verb: String(verb), kind, namespace: String(namespace), name: name as string | undefined };
  let allowed = true;
  try {
    accounts.authorize(user, { ...about, subresource: subresource as string | undefined });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    allowed = false;
  }
  return { ...body, status: { allowed } };
}

function discovery({ kinds }: Machinery, apiVersion: string, response: ServerResponse): void {
  const found = kinds.filter((each) => each.apiVersion === apiVersion);
  if (found.length === 0) throw new Refusal(404, "NotFound", "the server could not find the requested resource");
  const resources = found.map(({ plural, kind, namespaced }) => ({ name: plural, kind, namespaced }));
  send(response, 200, { kind: "APIResourceList", apiVersion: "v1", groupVersion: apiVersion, resources });
}

interface Sent {
  body: Tree;
  query: URLSearchParams;
  type: string;
}

function work(machinery: Machinery, request: Request, sent: Sent): [number, Tree] {
  const { verb, kind, namespace, name = "" } = request;
  const { store } = machinery;
  if (verb === "list") return [200, list(machinery, request, sent.query)];
  if (verb === "get") {
    const found = store.read(kind, namespace, name);
    // Throws that it is not there.
    return [200, found ?? store.remove(kind, namespace, name)];
  }
  const manager = sent.query.get("fieldManager") ?? "unknown";
  if (verb === "create") {
    const object = sent.body as Obj;
    if (object.kind !== kind.kind)
      throw new Refusal(400, "BadRequest", `${object.kind} in the body is no ${kind.kind}`);
    if (kind.namespaced) object.metadata.namespace ??= namespace;
    return [201, store.create(kind, object, manager)];
  }
  if (verb === "patch") return [200, patch(machinery, request, sent, manager)];
  if (verb === "delete") {
    const options = tree(sent.body["preconditions"]);
    const found = store.check(kind, namespace, name, options);
    if (machinery.controllers.remove(found, sent.body["propagationPolicy"])) return [200, found];
    store.remove(kind, namespace, name, options);
    return [200, { kind: "Status", apiVersion: "v1", status: "Success", details: { name, kind: kind.plural } }];
  }
  throw new Refusal(405, "MethodNotAllowed", `the server does not allow this method on the requested resource`);
}

function patch({ store }: Machinery, request: Request, { body, query, type }: Sent, manager: string): Obj {
  const { kind, namespace, name = "", subresource } = request;
  if (type.startsWith("application/apply-patch")) {
    const manifest = body as Obj;
    if (kind.namespaced) manifest.metadata.namespace ??= namespace;
    return store.apply(kind, manifest, manager, query.get("force") === "true");
  }
  const change = (object: Obj): Obj => {
    if (subresource === "scale")
      return mergePatch(object, { spec: { replicas: tree(body["spec"])["replicas"] } }) as Obj;
    if (type.startsWith("application/merge-patch")) return mergePatch(object, body) as Obj;
    if (type.startsWith("application/json-patch")) return jsonPatch(object, body as never);
    throw new Refusal(415, "UnsupportedMediaType", `the body of the request was in an unknown format: ${type}`);
  };
  return store.update(kind, namespace, name, manager, change, subresource === "status" ? "status" : undefined);
}

function list({ store, pages }: Machinery, { kind, namespace, name }: Request, query: URLSearchParams): Tree {
  const token = query.get("continue");
  const labels = query.get("labelSelector");
  let objects: Obj[] | undefined;
  if (token === null) {
    const all = store.all(kind, namespace === "" ? undefined : namespace);
    objects = all.filter((each) => (name === undefined || each.metadata.name === name) && fitsLabels(each, labels));
  } else {
    objects = pages.get(token);
    const message = "The provided continue parameter is too old to display a consistent list result.";
    if (objects === undefined) throw new Refusal(410, "Expired", message);
  }
  const limit = Number(query.get("limit") ?? 0) || objects.length;
  const rest = objects.slice(limit);
  const next = rest.length === 0 ? undefined : randomUUID();
  if (next !== undefined) pages.set(next, rest);
  const metadata = { resourceVersion: String(store.version), ...(next === undefined ? {} : { continue: next }) };
  // In a list the objects do not say what they are.
  const items = objects.slice(0, limit).map(({ apiVersion: _, kind: __, ...each }) => each);
  return { apiVersion: kind.apiVersion, kind: `${kind.kind}List`, metadata, items };
}

export function fitsLabels({ metadata }: Obj, selector: string | null): boolean {
  if (selector === null || selector === "") return true;
  return selector.split(",").every((each) => {
    const [key = "", value = ""] = each.split(/==?/);
    return metadata.labels?.[key] === value;
  });
}

function serveLog(
  { store, logs }: Machinery,
  request: Request,
  query: URLSearchParams,
  response: ServerResponse,
): void {
  const { kind, namespace, name = "" } = request;
  const pod = store.read(kind, namespace, name) ?? store.remove(kind, namespace, name);
  if (!logs.has(`${namespace}/${name}`)) {
    const message = `container "${query.get("container")}" in pod "${name}" is waiting to start: ContainerCreating`;
    throw new Refusal(400, "BadRequest", message, { name: pod.metadata.name });
  }
  logs.serve(`${namespace}/${name}`, query, response);
}

function send(response: ServerResponse, code: number, body: Tree): void {
  response.writeHead(code, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
