import { randomBytes } from "node:crypto";
import type { Logs } from "./logs.ts";
import { type Kind, type Obj, type Tree, tree } from "./objects.ts";
import type { Store } from "./store.ts";

/** What a container of a Job does; gives its exit status. Aborted when its Pod is evicted or deleted. */
export type Program = (run: {
  job: Obj;
  pod: Obj;
  args: string[];
  log(line: string): void;
  signal: AbortSignal;
}) => Promise<number>;

export interface Behaviour {
  /** Whether the Pods of a workload's newest template become ready. */
  rollout: (workload: Obj) => "ready" | "stuck";
  program: Program;
}

export interface Controllers {
  /** From now on nothing happens by itself, only by `step`. */
  hold(): void;
  /** Lets the controllers work until they have nothing more to do, and by themselves from then on. */
  release(): void;
  /** Lets the controllers see what has changed, once. */
  step(): void;
  /** As the node does that has too little of something. */
  evict(namespace: string, pod: string): void;
  stop(): void;
}

export function runControllers(kinds: Kind[], store: Store, logs: Logs, behaviour: Behaviour): Controllers {
  const kindOf = (name: string) => {
    const found = kinds.find(({ kind }) => kind === name);
    if (found === undefined) throw new Error(`no kind ${name}`);
    return found;
  };
  const world: World = { kindOf, store, logs, behaviour, running: new Map() };
  let held = false;
  let scheduled = false;
  const step = () => {
    for (const name of ["Deployment", "DaemonSet", "StatefulSet", "Job"]) {
      for (const object of store.all(kindOf(name))) reconcile[name]?.(world, object);
    }
    collect(world);
  };
  const soon = () => {
    if (held || scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      if (!held) step();
    });
  };
  const stop = store.onEvent(soon);
  return {
    hold() {
      held = true;
    },
    release() {
      held = false;
      soon();
    },
    step,
    evict(namespace, pod) {
      const message = "The node was low on resource: memory.";
      endPod(world, namespace, pod, { phase: "Failed", reason: "Evicted", message });
    },
    stop() {
      stop();
      held = true;
      for (const { abort } of world.running.values()) abort();
    },
  };
}

interface World {
  kindOf(name: string): Kind;
  store: Store;
  logs: Logs;
  behaviour: Behaviour;
  running: Map<string, { abort(): void }>;
}

const reconcile: Record<string, (world: World, object: Obj) => unknown> = {
  Deployment: (world, object) => rollPods(world, object),
  DaemonSet: (world, object) => rollPods(world, object),
  StatefulSet: (world, object) => statefulSet(world, object),
  Job: (world, object) => job(world, object),
};

function setStatus({ store, kindOf }: World, object: Obj, status: Tree): void {
  const { namespace = "", name } = object.metadata;
  store.update(
    kindOf(object.kind),
    namespace,
    name,
    "kube-controller-manager",
    (now) => ({ ...now, status }),
    "status",
  );
}

function rollPods(world: World, object: Obj): unknown {
  const { spec, status } = { spec: tree(object["spec"]), status: tree(object["status"]) };
  const observedGeneration = object.metadata.generation;
  const ready = world.behaviour.rollout(object) === "ready";
  const wanted = Number(spec["replicas"] ?? 1);
  if (object.kind === "DaemonSet") {
    const updated = ready ? 1 : 0;
    const numbers = {
      desiredNumberScheduled: 1,
      updatedNumberScheduled: 1,
      numberAvailable: updated,
      numberReady: updated,
    };
    return setStatus(world, object, { observedGeneration, ...numbers });
  }
  const before = Number(status["availableReplicas"] ?? 0);
  const numbers = ready
    ? { replicas: wanted, updatedReplicas: wanted, availableReplicas: wanted, readyReplicas: wanted }
    : { replicas: before + 1, updatedReplicas: 1, availableReplicas: before, readyReplicas: before };
  if (!ready && status["observedGeneration"] === observedGeneration) return undefined;
  return setStatus(world, object, { observedGeneration, ...numbers });
}

function statefulSet(world: World, object: Obj): void {
  const { store, kindOf, behaviour } = world;
  const { namespace = "", name } = object.metadata;
  const spec = tree(object["spec"]);
  const wanted = Number(spec["replicas"] ?? 1);
  const template = tree(spec["template"]);
  const revision = `${name}-${hash(JSON.stringify(template))}`;
  const ready = behaviour.rollout(object) === "ready";
  for (const pod of owned(world, object)) {
    const index = Number(pod.metadata.name.slice(name.length + 1));
    const isOld = pod.metadata.labels?.["controller-revision-hash"] !== revision;
    if (index >= wanted || isOld) store.remove(kindOf("Pod"), namespace, pod.metadata.name);
  }
  for (let index = 0; index < wanted; index += 1) {
    const podName = `${name}-${index}`;
    if (store.read(kindOf("Pod"), namespace, podName) !== undefined) continue;
    const claims = (spec["volumeClaimTemplates"] ?? []) as Obj[];
    const volumes = claims.map(({ metadata }) => {
      const claimName = `${metadata.name}-${podName}`;
      return { name: metadata.name, persistentVolumeClaim: { claimName } };
    });
    const labels = {
      ...(tree(tree(template["metadata"])["labels"]) as Record<string, string>),
      "controller-revision-hash": revision,
    };
    const podSpec = tree(template["spec"]);
    const all = [...((podSpec["volumes"] ?? []) as Tree[]), ...volumes];
    makePod(world, object, podName, labels, { ...podSpec, volumes: all, nodeName: "node-1" });
    setPodRunning(world, namespace, podName, ready);
  }
  const numbers = {
    replicas: wanted,
    readyReplicas: ready ? wanted : 0,
    updatedReplicas: wanted,
    availableReplicas: ready ? wanted : 0,
  };
  const revisions = { currentRevision: revision, updateRevision: revision };
  setStatus(world, object, { observedGeneration: object.metadata.generation, ...numbers, ...revisions });
}

function job(world: World, object: Obj): unknown {
  const { namespace = "", name } = object.metadata;
  const spec = tree(object["spec"]);
  const conditions = (tree(object["status"])["conditions"] ?? []) as Tree[];
  if (conditions.some(({ type }) => type === "Complete" || type === "Failed")) return undefined;
  const pods = owned(world, object);
  const phases = pods.map((pod) => tree(pod["status"])["phase"]);
  const failed = phases.filter((phase) => phase === "Failed").length;
  if (phases.includes("Succeeded")) {
    return setStatus(world, object, { succeeded: 1, failed, conditions: [{ type: "Complete", status: "True" }] });
  }
  if (failed > Number(spec["backoffLimit"] ?? 6)) {
    const reason = "BackoffLimitExceeded";
    const message = "Job has reached the specified backoff limit";
    return setStatus(world, object, { failed, conditions: [{ type: "Failed", status: "True", reason, message }] });
  }
  if (phases.some((phase) => phase === "Pending" || phase === "Running")) {
    return setStatus(world, object, { active: 1, failed });
  }
  const podName = `${name}-${randomBytes(3).toString("hex")}`;
  const template = tree(spec["template"]);
  const labels = {
    ...(tree(tree(template["metadata"])["labels"]) as Record<string, string>),
    "batch.kubernetes.io/job-name": name,
    "job-name": name,
  };
  const pod = makePod(world, object, podName, labels, tree(template["spec"]));
  setPodRunning(world, namespace, podName, true);
  return runProgram(world, object, pod);
}

function runProgram(world: World, owner: Obj, pod: Obj): void {
  const { namespace = "", name } = pod.metadata;
  const key = `${namespace}/${name}`;
  const stopping = new AbortController();
  world.running.set(key, { abort: () => stopping.abort() });
  const [container] = (tree(pod["spec"])["containers"] ?? []) as Tree[];
  const args = (container?.["args"] ?? []) as string[];
  const log = (line: string) => stopping.signal.aborted || world.logs.write(key, line);
  const done = (exitCode: number) => {
    if (stopping.signal.aborted) return;
    endPod(world, namespace, name, { phase: exitCode === 0 ? "Succeeded" : "Failed" }, exitCode);
  };
  world.behaviour.program({ job: owner, pod, args, log, signal: stopping.signal }).then(done, (error) => {
    log(String(error));
    done(1);
  });
}

function makePod(world: World, owner: Obj, name: string, labels: Record<string, string>, spec: Tree): Obj {
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

function setPodRunning(world: World, namespace: string, name: string, ready: boolean): void {
  const pod = world.store.read(world.kindOf("Pod"), namespace, name);
  if (pod === undefined) return;
  const containers = (tree(pod["spec"])["containers"] ?? []) as Tree[];
  const containerStatuses = containers.map((each) => ({ name: each["name"], ready, state: { running: {} } }));
  world.logs.open(`${namespace}/${name}`);
  setStatus(world, pod, { phase: "Running", containerStatuses });
}

function endPod(world: World, namespace: string, name: string, status: Tree, exitCode = 137): void {
  const key = `${namespace}/${name}`;
  world.running.get(key)?.abort();
  world.running.delete(key);
  const pod = world.store.read(world.kindOf("Pod"), namespace, name);
  if (pod === undefined) return;
  const containers = (tree(pod["spec"])["containers"] ?? []) as Tree[];
  const state = { terminated: { exitCode, reason: exitCode === 0 ? "Completed" : "Error" } };
  const containerStatuses = containers.map((each) => ({ name: each["name"], ready: false, state }));
  setStatus(world, pod, { ...status, containerStatuses });
  world.logs.end(key);
}

function owned({ store, kindOf }: World, owner: Obj): Obj[] {
  const pods = store.all(kindOf("Pod"), owner.metadata.namespace);
  return pods.filter(({ metadata }) => metadata.ownerReferences?.some(({ uid }) => uid === owner.metadata.uid));
}

/** Removes Pods whose owner has gone. */
function collect(world: World): void {
  const { store, kindOf, logs, running } = world;
  const alive = new Set(
    ["StatefulSet", "Job"].flatMap((name) => store.all(kindOf(name)).map(({ metadata }) => metadata.uid)),
  );
  for (const { metadata } of store.all(kindOf("Pod"))) {
    const [owner] = metadata.ownerReferences ?? [];
    if (owner === undefined || alive.has(owner.uid)) continue;
    const key = `${metadata.namespace}/${metadata.name}`;
    running.get(key)?.abort();
    running.delete(key);
    store.remove(kindOf("Pod"), metadata.namespace ?? "", metadata.name);
    logs.end(key);
    logs.remove(key);
  }
}

function hash(text: string): string {
  let sum = 0;
  for (const character of text) sum = (sum * 31 + character.charCodeAt(0)) >>> 0;
  return sum.toString(16);
}
