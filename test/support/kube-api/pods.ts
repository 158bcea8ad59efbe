import { setTimeout as delay } from "node:timers/promises";
import type { Behaviour } from "./controllers.ts";
import type { Logs } from "./logs.ts";
import { type Kind, type Obj, type Tree, tree } from "./objects.ts";
import type { Store } from "./store.ts";

/** What the controllers share. */
export interface World {
  kindOf(name: string): Kind;
  store: Store;
  logs: Logs;
  behaviour: Behaviour;
  /** What runs in Pods, by `namespace/name`. */
  running: Map<string, Running>;
  /** When Jobs were first seen, by their uid, in milliseconds. */
  since: Map<string, number>;
  /** Lets the controllers look again. */
  soon(): void;
}

/** `TERM`: asked to end, as by `kubectl delete`; `KILL`: ended by the node. */
export type Stop = "TERM" | "KILL";

interface Running {
  stop(how: Stop): void;
  ended: Promise<void>;
}

export function setStatus({ store, kindOf }: World, object: Obj, status: Tree): void {
  const { namespace = "", name } = object.metadata;
  const change = (now: Obj) => ({ ...now, status });
  store.update(kindOf(object.kind), namespace, name, "kube-controller-manager", change, "status");
}

export function makePod(world: World, owner: Obj, name: string, labels: Record<string, string>, spec: Tree): Obj {
  const { namespace = "" } = owner.metadata;
  const reference = {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid ?? "",
  };
  const metadata = { name, namespace, labels, ownerReferences: [{ ...reference, controller: true }] };
  const pod = { apiVersion: "v1", kind: "Pod", metadata, spec, status: { phase: "Pending" } };
  return world.store.create(world.kindOf("Pod"), pod, "kube-controller-manager");
}

export function setPodRunning(world: World, pod: Obj, ready: boolean): void {
  world.logs.open(keyOf(pod));
  setContainers(world, pod, { phase: "Running" }, { ready, state: { running: {} } });
}

/** Gives each container of a Pod this status, where the Pod is still there. */
export function setContainers(world: World, { metadata }: Obj, status: Tree, container: Tree): void {
  const pod = world.store.read(world.kindOf("Pod"), metadata.namespace ?? "", metadata.name);
  if (pod === undefined) return;
  const containers = (tree(pod["spec"])["containers"] ?? []) as Tree[];
  setStatus(world, pod, { ...status, containerStatuses: containers.map(({ name }) => ({ name, ...container })) });
}

export function endPod(world: World, pod: Obj, status: Tree, terminated: { exitCode: number; reason?: string }): void {
  world.running.get(keyOf(pod))?.stop("KILL");
  const reason = terminated.reason ?? (terminated.exitCode === 0 ? "Completed" : "Error");
  setContainers(world, pod, status, { ready: false, state: { terminated: { ...terminated, reason } } });
  world.logs.end(keyOf(pod));
}

/** What a container of a Job does, to its end. */
export function runProgram(world: World, owner: Obj, pod: Obj): void {
  const [container] = (tree(pod["spec"])["containers"] ?? []) as Tree[];
  const args = (container?.["args"] ?? []) as string[];
  keep(world, pod, async (signal, log) => {
    let exitCode = 1;
    try {
      exitCode = await world.behaviour.program({ job: owner, pod, args, log, signal });
    } catch (error) {
      log(String(error));
    }
    if (signal.aborted) return;
    world.running.delete(keyOf(pod));
    endPod(world, pod, { phase: exitCode === 0 ? "Succeeded" : "Failed" }, { exitCode });
  });
}

/** What a container of a StatefulSet does: begun again whenever it ends by itself. */
export function runService(world: World, pod: Obj, service: NonNullable<Behaviour["service"]>): void {
  setPodRunning(world, pod, false);
  keep(world, pod, async (signal, log) => {
    while (!signal.aborted) {
      const exitCode = await service({ pod, log, signal, ready: () => setPodRunning(world, pod, true) });
      if (signal.aborted) return;
      log(`ended with exit status ${exitCode}`);
      setContainers(
        world,
        pod,
        { phase: "Running" },
        { ready: false, state: { waiting: { reason: "CrashLoopBackOff" } } },
      );
      await delay(500, undefined, { signal }).catch(() => undefined);
    }
  });
}

function keep(world: World, pod: Obj, run: (signal: AbortSignal, log: (line: string) => void) => Promise<void>): void {
  const key = keyOf(pod);
  const stopping = new AbortController();
  const ended = run(stopping.signal, (line) => world.logs.write(key, line)).finally(() => world.running.delete(key));
  world.running.set(key, { stop: (how) => stopping.abort(how), ended });
}

/** As `kubectl delete pod`: it goes when what it runs has ended. */
export function removePod(world: World, pod: Obj): void {
  const { store, logs, kindOf, running } = world;
  const { namespace = "", name, deletionTimestamp } = pod.metadata;
  const run = running.get(keyOf(pod));
  const remove = () => {
    if (store.read(kindOf("Pod"), namespace, name)?.metadata.uid !== pod.metadata.uid) return;
    store.remove(kindOf("Pod"), namespace, name);
    logs.end(keyOf(pod));
    logs.remove(keyOf(pod));
  };
  if (run === undefined) {
    remove();
  } else if (deletionTimestamp === undefined) {
    markDeleted(world, pod);
    run.stop("TERM");
    run.ended.then(remove);
  }
}

export function markDeleted({ store, kindOf }: World, { kind, metadata }: Obj): void {
  store.update(kindOf(kind), metadata.namespace ?? "", metadata.name, "kube-apiserver", (object) => {
    object.metadata["deletionTimestamp"] ??= new Date().toISOString().replace(/\.\d+/, "");
    return object;
  });
}

export function owned({ store, kindOf }: World, owner: Obj): Obj[] {
  const pods = store.all(kindOf("Pod"), owner.metadata.namespace);
  return pods.filter(({ metadata }) => metadata.ownerReferences?.some(({ uid }) => uid === owner.metadata.uid));
}

function keyOf({ metadata }: Obj): string {
  return `${metadata.namespace}/${metadata.name}`;
}
