import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { promisify } from "node:util";
import { type Accounts, createAccounts, everything, type Rule } from "./accounts.ts";
import { type Behaviour, type Controllers, runControllers } from "./controllers.ts";
import { createFaults, type Fault } from "./faults.ts";
import { handler, type Machinery } from "./handler.ts";
import { createLogs } from "./logs.ts";
import { installedKinds, type Kind, type Obj } from "./objects.ts";
import { createStore } from "./store.ts";
import { createWatches } from "./watches.ts";

/**
 * A Kubernetes API of this process, over HTTPS, with what pgkit relies on: versions and conflicts, pages, watches, server-side
 * apply, RBAC, logs, and controllers for Deployments, DaemonSets, StatefulSets and Jobs. `docs/kubernetes-testing.md` says how
 * the same tests run on a real one.
 */
export interface KubeApi {
  readonly url: string;
  readonly folder: string;
  readonly accounts: Accounts;
  readonly controllers: Controllers;
  readonly behaviour: Behaviour;
  readonly requests: string[];
  /** A kubeconfig of an account that may do everything in all namespaces, or what is given by namespace. */
  kubeconfig(user?: string, rules?: Record<string, Rule[]>): Promise<string>;
  /** The files of a Pod's ServiceAccount, and the variables that say where the API is. */
  serviceAccount(
    user: string,
    namespace: string,
    rules?: Record<string, Rule[]>,
  ): Promise<{ folder: string; env: Record<string, string> }>;
  fail(fault: Fault): void;
  cutWatches(how: "cleanly" | "in the middle"): number;
  cutLogs(how?: "cleanly" | "in the middle"): number;
  bookmark(): void;
  /** Forgets versions and pages, as etcd does after five minutes. */
  compact(): void;
  /** Nobody listens any more; `up` listens at the same port again. */
  down(): Promise<void>;
  up(): Promise<void>;
  /** As `kubectl create` by an administrator. */
  put(object: Obj): Obj;
  read(kind: string, namespace: string, name: string): Obj | undefined;
  /** Changes an object as somebody else. */
  change(kind: string, namespace: string, name: string, change: (object: Obj) => void, manager?: string): Obj;
  /** As somebody else. */
  remove(kind: string, namespace: string, name: string): void;
  /** Told of each change from now on; gives what ends that. */
  onChange(listener: (object: Obj, type: string) => void): () => void;
  install(kind: Kind): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function startKubeApi(): Promise<KubeApi> {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-kube-"));
  const { key, cert } = await certificate(folder);
  const kinds = installedKinds();
  const [store, accounts, logs, faults, watches] = [
    createStore(),
    createAccounts(),
    createLogs(),
    createFaults(),
    createWatches(),
  ];
  const behaviour: Behaviour = {
    rollout: () => "ready",
    program: async () => 0,
    pulls: (image) => !image.includes("there-is-none"),
  };
  const controllers = runControllers(kinds, store, logs, behaviour);
  const parts = { kinds, store, accounts, logs, faults, watches, controllers };
  const machinery: Machinery = { ...parts, requests: [], pages: new Map() };
  const sockets = new Set<Duplex>();
  const listen = async (port: number) => {
    const server = createServer({ key, cert, keepAlive: true }, handler(machinery));
    server.on("connection", (socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
    });
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return server;
  };
  let server = await listen(0);
  const { port } = server.address() as AddressInfo;
  const url = `https://127.0.0.1:${port}`;
  const down = async () => {
    if (!server.listening) return;
    const closed = once(server, "close");
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  const kindOf = (name: string) => {
    const found = kinds.find(({ kind }) => kind === name);
    if (found === undefined) throw new Error(`the cluster has no kind ${name}`);
    return found;
  };
  const api: KubeApi = {
    ...{ url, folder, accounts, controllers, behaviour, requests: machinery.requests, down },
    async kubeconfig(user = "admin", rules = { "*": everything }) {
      const path = join(folder, `${user.replaceAll(":", "-")}.kubeconfig`);
      await writeFile(path, kubeconfigText(url, cert, accounts.add(user, rules)), { mode: 0o600 });
      return path;
    },
    async serviceAccount(user, namespace, rules = { "*": everything }) {
      const place = await mkdtemp(join(folder, "account-"));
      await writeFile(join(place, "ca.crt"), cert);
      await writeFile(join(place, "namespace"), namespace);
      await writeFile(join(place, "token"), accounts.add(user, rules));
      return { folder: place, env: { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(port) } };
    },
    fail: (fault) => faults.add(fault),
    cutWatches: (how) => watches.cut(how),
    cutLogs: (how) => logs.cut(how),
    bookmark: () => watches.bookmark(store.version),
    compact() {
      store.compact();
      machinery.pages.clear();
    },
    async up() {
      server = await listen(port);
    },
    put: (object) => store.create(kindOf(object.kind), object, "kubectl"),
    read: (kind, namespace, name) => store.read(kindOf(kind), namespace, name),
    change: (kind, namespace, name, change, manager = "kubectl") =>
      store.update(kindOf(kind), namespace, name, manager, (object) => {
        change(object);
        return object;
      }),
    remove: (kind, namespace, name) => void store.remove(kindOf(kind), namespace, name),
    onChange: (listener) => store.onEvent(({ object, type }) => listener(object, type)),
    install: (kind) => void kinds.push(kind),
    async [Symbol.asyncDispose]() {
      controllers.stop();
      await down();
      await rm(folder, { recursive: true, force: true });
    },
  };
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "default" } });
  return api;
}

function kubeconfigText(server: string, cert: string, token: string): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      { name: "test", cluster: { server, "certificate-authority-data": Buffer.from(cert).toString("base64") } },
    ],
    users: [{ name: "test", user: { token } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "test" } }],
    "current-context": "test",
  });
}

async function certificate(folder: string): Promise<{ key: string; cert: string }> {
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  await promisify(execFile)("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
    ...["-subj", "/CN=kube-api", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
  ]);
  return { key: await readFile(key, "utf8"), cert: await readFile(cert, "utf8") };
}
