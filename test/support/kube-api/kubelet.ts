import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, copyFile, mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { Behaviour } from "./controllers.ts";
import { type Obj, type Tree, tree } from "./objects.ts";
import type { KubeApi } from "./server.ts";

export interface KubeletOptions {
  /**
   * What the image sets. Nothing is mounted here: `mounts` are the real folders that stand for the container's mounts, by their
   * mountPath (for `/etc/pgkit` a folder with the ConfigMap's files), and the variables lead the program to them.
   */
  env?: (mounts: ReadonlyMap<string, string>) => Record<string, string>;
}

/**
 * Runs the first container of the Pods of Jobs and StatefulSets as a process of this machine: command, args and env (values, Secrets
 * and ConfigMaps), as runAsUser where this runs as root, with its lines in the Pod's log. The image is not looked at:
 * its entry point, and `pgkit` in its PATH, are this project's. ConfigMaps, Secrets and emptyDirs become folders of their own; of any
 * other volume the mountPath must be a real folder.
 */
export async function startKubelet(api: KubeApi, options: KubeletOptions = {}): Promise<void> {
  const folder = await mkdtemp(join(api.folder, "kubelet-"));
  // Whoever a Pod runs as comes to its own folders.
  for (const each of [api.folder, folder]) await chmod(each, 0o711);
  const pgkit = await buildProgram(folder);
  const node = { api, folder, pgkit, options, volumes: 0 };
  const behaviour: Pick<Behaviour, "program" | "service"> = {
    program: async ({ pod, log, signal }) => {
      return await ended(startContainer(node, pod, await surroundings(node, pod), log), pod, signal);
    },
    service: async ({ pod, log, signal, ready }) => {
      const around = await surroundings(node, pod);
      const child = startContainer(node, pod, around, log);
      const over = new AbortController();
      await Promise.all([
        ended(child, pod, signal).finally(() => over.abort()),
        probe(pod, around, AbortSignal.any([signal, over.signal])).then((isReady) => isReady && ready()),
      ]);
      return child.exitCode ?? 137;
    },
  };
  Object.assign(api.behaviour, behaviour);
}

const project = join(import.meta.dirname, "..", "..", "..");

/** What the image has as its entry point. */
async function buildProgram(folder: string): Promise<string> {
  const [bin, program] = [join(folder, "bin"), join(folder, "lib", "bin", "pgkit.js")];
  await promisify(execFile)(process.execPath, [join(project, "scripts", "build.ts"), join(folder, "lib", "dist")]);
  await Promise.all([mkdir(bin), mkdir(dirname(program))]);
  await copyFile(join(project, "bin", "pgkit.js"), program);
  await writeFile(join(folder, "lib", "package.json"), '{ "type": "module" }');
  await writeFile(join(bin, "pgkit"), `#!/bin/sh\nexec '${process.execPath}' '${program}' "$@"\n`, { mode: 0o755 });
  return join(bin, "pgkit");
}

interface Node {
  api: KubeApi;
  folder: string;
  pgkit: string;
  options: KubeletOptions;
  /** So many were made so far. */
  volumes: number;
}

/** As whom and with which variables a container's programs run. */
interface Surroundings {
  env: Record<string, string>;
  user: User;
}

async function surroundings(node: Node, pod: Obj): Promise<Surroundings> {
  const container = mainOf(pod);
  const user = userOf(pod, container);
  const mounts = await mountsOf(node, pod, container, user);
  const env = {
    PATH: `${join(node.folder, "bin")}:${process.env["PATH"]}`,
    LC_ALL: "C.UTF-8",
    HOME: mounts.get("/scratch") ?? "/",
    ...node.options.env?.(mounts),
    ...variablesOf(node, pod, container),
  };
  return { env, user };
}

type Child = ReturnType<typeof spawn>;

function startContainer({ pgkit }: Node, pod: Obj, { env, user }: Surroundings, log: (line: string) => void): Child {
  const container = mainOf(pod);
  const [program = "", ...args] = [
    ...((container["command"] ?? [pgkit]) as string[]),
    ...((container["args"] ?? []) as string[]),
  ];
  // A group of its own, so that what it starts ends with it.
  const child = spawn(program, args, { cwd: "/", env, detached: true, stdio: ["ignore", "pipe", "pipe"], ...user });
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on("line", log);
  child.on("error", (error) => log(`cannot start ${program}: ${error.message}`));
  return child;
}

/** Gives the exit status; ends the process when its Pod is to end. */
async function ended(child: Child, pod: Obj, signal: AbortSignal): Promise<number> {
  if (child.pid === undefined) return 128;
  const closed = once(child, "close");
  const over = new AbortController();
  const stop = () => void end(child, pod, signal.reason, over.signal);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop);
  const [status] = await closed;
  over.abort();
  return status ?? 137;
}

async function end(child: Child, pod: Obj, how: unknown, over: AbortSignal): Promise<void> {
  // The image of PostgreSQL has STOPSIGNAL SIGINT; a kill leaves its shared memory behind.
  const isServer = basename(((mainOf(pod)["command"] ?? []) as string[])[0] ?? "") === "postgres";
  const kill = isServer ? "SIGQUIT" : "SIGKILL";
  if (how !== "TERM") return signalGroup(child, kill);
  // The first process alone is asked, as by a node; what it started ends with it.
  child.kill(isServer ? "SIGINT" : "SIGTERM");
  const seconds = Number(tree(pod["spec"])["terminationGracePeriodSeconds"] ?? 30);
  await delay(seconds * 1000, undefined, { signal: over, ref: false }).catch(() => undefined);
  if (!over.aborted) signalGroup(child, kill);
}

function signalGroup(child: Child, name: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, name);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

/** True once the readiness probe succeeds, or at once where there is none; false when it is over before. */
async function probe(pod: Obj, { env, user }: Surroundings, over: AbortSignal): Promise<boolean> {
  const command = tree(tree(mainOf(pod)["readinessProbe"])["exec"])["command"] as string[] | undefined;
  if (command === undefined) return true;
  const [program = "", ...args] = command;
  while (!over.aborted) {
    const [status] = await once(spawn(program, args, { cwd: "/", env, stdio: "ignore", ...user }), "close");
    if (status === 0) return !over.aborted;
    await delay(100, undefined, { signal: over }).catch(() => undefined);
  }
  return false;
}

interface User {
  uid?: number;
  gid?: number;
}

function userOf(pod: Obj, container: Tree): User {
  const context = { ...tree(tree(pod["spec"])["securityContext"]), ...tree(container["securityContext"]) };
  const uid = context["runAsUser"];
  if (process.getuid?.() !== 0 || typeof uid !== "number") return {};
  const gid = context["runAsGroup"];
  return { uid, gid: typeof gid === "number" ? gid : uid };
}

function variablesOf(node: Node, pod: Obj, container: Tree): Record<string, string> {
  const namespace = pod.metadata.namespace ?? "";
  const variables: Record<string, string> = {};
  for (const { name, value, valueFrom } of (container["env"] ?? []) as Tree[]) {
    const from = tree(valueFrom);
    const [kind = "", source] = Object.entries(from)[0] ?? [];
    const found =
      kind === "" ? value : contentOf(node, kindsOfRef[kind] ?? kind, namespace, tree(source))[keyIn(source)];
    if (found === undefined && tree(source)["optional"] === true) continue;
    if (kind !== "" && found === undefined) throw new Error(`CreateContainerConfigError: ${JSON.stringify(from)}`);
    variables[String(name)] = String(found ?? "");
  }
  for (const { secretRef, configMapRef } of (container["envFrom"] ?? []) as Tree[]) {
    if (secretRef !== undefined) Object.assign(variables, contentOf(node, "Secret", namespace, tree(secretRef)));
    if (configMapRef !== undefined)
      Object.assign(variables, contentOf(node, "ConfigMap", namespace, tree(configMapRef)));
  }
  return variables;
}

const kindsOfRef: Record<string, string> = { secretKeyRef: "Secret", configMapKeyRef: "ConfigMap" };

function keyIn(source: unknown): string {
  return String(tree(source)["key"] ?? "");
}

/** The texts of a Secret or ConfigMap. */
function contentOf({ api }: Node, kind: string, namespace: string, ref: Tree): Record<string, string> {
  const name = String(ref["name"] ?? ref["secretName"] ?? "");
  const found = api.read(kind, namespace, name);
  if (found === undefined && ref["optional"] !== true)
    throw new Error(`CreateContainerConfigError: no ${kind} ${name}`);
  const entries = Object.entries(tree(found?.["data"])).map(([key, text]) => {
    return [key, kind === "Secret" ? Buffer.from(String(text), "base64").toString("utf8") : String(text)] as const;
  });
  return Object.fromEntries(entries);
}

/** A real folder for each mount. */
async function mountsOf(node: Node, pod: Obj, container: Tree, user: User): Promise<ReadonlyMap<string, string>> {
  const namespace = pod.metadata.namespace ?? "";
  const volumes = (tree(pod["spec"])["volumes"] ?? []) as Tree[];
  const mounts = new Map<string, string>();
  for (const { name, mountPath } of (container["volumeMounts"] ?? []) as Tree[]) {
    const volume = volumes.find((each) => each["name"] === name) ?? {};
    const kind = { configMap: "ConfigMap", secret: "Secret" }[Object.keys(volume).find((key) => key !== "name") ?? ""];
    if (kind === undefined && volume["emptyDir"] === undefined) {
      mounts.set(String(mountPath), String(mountPath));
      continue;
    }
    node.volumes += 1;
    // Short, since a socket may be in it, whose path has 107 bytes at most.
    const folder = join(node.folder, `${node.volumes}`);
    await mkdir(folder);
    const source = tree(volume["configMap"] ?? volume["secret"]);
    const files = kind === undefined ? {} : contentOf(node, kind, namespace, source);
    for (const [file, text] of Object.entries(files)) {
      await writeFile(join(folder, file), text, { mode: 0o440 });
      if (user.uid !== undefined) await chown(join(folder, file), user.uid, user.gid ?? user.uid);
    }
    if (user.uid !== undefined) await chown(folder, user.uid, user.gid ?? user.uid);
    mounts.set(String(mountPath), folder);
  }
  return mounts;
}

function mainOf(pod: Obj): Tree {
  const [container] = (tree(pod["spec"])["containers"] ?? []) as Tree[];
  return container ?? {};
}
