import { reconcileJob } from "./job-controller.ts";
import type { Logs } from "./logs.ts";
import { type Kind, type Obj, type Tree, tree } from "./objects.ts";
import {
  endPod,
  makePod,
  markDeleted,
  owned,
  removePod,
  runService,
  setPodRunning,
  setStatus,
  type World,
} from "./pods.ts";
import type { Store } from "./store.ts";

/** What a container of a Job does; gives its exit status. Aborted by `KILL` when its Pod is evicted, by `TERM` when it is deleted. */
export type Program = (run: {
  job: Obj;
  pod: Obj;
  args: string[];
  log(line: string): void;
  signal: AbortSignal;
}) => Promise<number>;

/** As `Program`, for as long as its Pod is there; says when it is ready. The signal's reason is `TERM` or `KILL`. */
export type Service = (run: {
  pod: Obj;
  log(line: string): void;
  signal: AbortSignal;
  ready(): void;
}) => Promise<number>;

export interface Behaviour {
  /** Whether the Pods of a workload's newest template become ready. */
  rollout: (workload: Obj) => "ready" | "stuck";
  program: Program;
  /** What a container of a StatefulSet really does; where left out, it only says that it runs. */
  service?: Service;
  /** Whether there is such an image. */
  pulls: (image: string) => boolean;
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
  /** As the node does with a container that takes more memory than its limit. */
  outOfMemory(namespace: string, pod: string): void;
  /** Lets an object go when what it runs has ended; false where nothing has to be waited for. */
  remove(object: Obj, propagationPolicy: unknown): boolean;
  stop(): void;
}

export function runControllers(kinds: Kind[], store: Store, logs: Logs, behaviour: Behaviour): Controllers {
  const kindOf = (name: string) => {
    const found = kinds.find(({ kind }) => kind === name);
    if (found === undefined) throw new Error(`no kind ${name}`);
    return found;
  };
  let held = false;
  let scheduled = false;
  const soon = () => {
    if (held || scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      if (!held) step();
    });
  };
  const world: World = { kindOf, store, logs, behaviour, running: new Map(), since: new Map(), soon };
  const step = () => {
    for (const name of ["Deployment", "DaemonSet", "StatefulSet", "Job"]) {
      for (const object of store.all(kindOf(name))) reconcile[name]?.(world, object);
    }
    finalize(world);
    collect(world);
  };
  const stop = store.onEvent(soon);
  const podOf = (namespace: string, name: string) => {
    const pod = store.read(kindOf("Pod"), namespace, name);
    if (pod === undefined) throw new Error(`no Pod ${namespace}/${name}`);
    return pod;
  };
  return {
    hold() {
      held = true;
    },
    release() {
      held = false;
      soon();
    },
    step,
    evict(namespace, name) {
      const message = "The node was low on resource: memory.";
      const disruption = { type: "DisruptionTarget", status: "True", reason: "TerminationByKubelet", message };
      const status = { phase: "Failed", reason: "Evicted", message, conditions: [disruption] };
      endPod(world, podOf(namespace, name), status, { exitCode: 137 });
    },
    outOfMemory(namespace, name) {
      endPod(world, podOf(namespace, name), { phase: "Failed" }, { exitCode: 137, reason: "OOMKilled" });
    },
    remove(object, propagationPolicy) {
      if (object.kind === "Pod") removePod(world, object);
      else if (propagationPolicy === "Foreground" && object.kind in reconcile) markDeleted(world, object);
      else return false;
      return true;
    },
    stop() {
      stop();
      held = true;
      for (const running of world.running.values()) running.stop("KILL");
    },
  };
}

const reconcile: Record<string, (world: World, object: Obj) => unknown> = {
  Deployment: (world, object) => rollPods(world, object),
  DaemonSet: (world, object) => rollPods(world, object),
  StatefulSet: (world, object) => statefulSet(world, object),
  Job: (world, object) => reconcileJob(world, object),
};

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
  const { behaviour } = world;
  const { name, deletionTimestamp } = object.metadata;
  if (deletionTimestamp !== undefined) return;
  const spec = tree(object["spec"]);
  const wanted = Number(spec["replicas"] ?? 1);
  const revision = `${name}-${hash(JSON.stringify(tree(spec["template"])))}`;
  const isReady = behaviour.rollout(object) === "ready";
  const isNew = (pod: Obj) => pod.metadata.labels?.["controller-revision-hash"] === revision;
  for (const pod of owned(world, object)) {
    const index = Number(pod.metadata.name.slice(name.length + 1));
    if (index >= wanted || !isNew(pod)) removePod(world, pod);
  }
  const there = new Set(owned(world, object).map((pod) => pod.metadata.name));
  for (let index = 0; index < wanted; index += 1) {
    if (there.has(`${name}-${index}`)) continue;
    const pod = makeMember(world, object, `${name}-${index}`, revision);
    if (behaviour.service === undefined) setPodRunning(world, pod, isReady);
    else runService(world, pod, behaviour.service);
  }
  const pods = owned(world, object);
  const ready = behaviour.service === undefined ? (isReady ? wanted : 0) : pods.filter(isPodReady).length;
  const numbers = { replicas: pods.length, readyReplicas: ready, availableReplicas: ready };
  const updated = { updatedReplicas: pods.filter(isNew).length, currentRevision: revision, updateRevision: revision };
  setStatus(world, object, { observedGeneration: object.metadata.generation, ...numbers, ...updated });
}

function makeMember(world: World, owner: Obj, name: string, revision: string): Obj {
  const spec = tree(owner["spec"]);
  const template = tree(spec["template"]);
  const claims = (spec["volumeClaimTemplates"] ?? []) as Obj[];
  const volumes = claims.map(({ metadata }) => {
    return { name: metadata.name, persistentVolumeClaim: { claimName: `${metadata.name}-${name}` } };
  });
  const labels = {
    ...(tree(tree(template["metadata"])["labels"]) as Record<string, string>),
    "controller-revision-hash": revision,
  };
  const podSpec = tree(template["spec"]);
  const all = [...((podSpec["volumes"] ?? []) as Tree[]), ...volumes];
  return makePod(world, owner, name, labels, { ...podSpec, volumes: all, nodeName: "node-1" });
}

function isPodReady(pod: Obj): boolean {
  const statuses = (tree(pod["status"])["containerStatuses"] ?? []) as Tree[];
  return statuses.length > 0 && statuses.every(({ ready }) => ready === true);
}

/** What is deleted in the foreground goes when its Pods have gone. */
function finalize(world: World): void {
  const { store, kindOf } = world;
  for (const name of ["Deployment", "DaemonSet", "StatefulSet", "Job"]) {
    for (const object of store.all(kindOf(name))) {
      if (object.metadata["deletionTimestamp"] === undefined) continue;
      for (const pod of owned(world, object)) removePod(world, pod);
      if (owned(world, object).length > 0) continue;
      store.remove(kindOf(name), object.metadata.namespace ?? "", object.metadata.name);
    }
  }
}

/** Removes Pods whose owner has gone. */
function collect(world: World): void {
  const { store, kindOf } = world;
  const alive = new Set(
    ["StatefulSet", "Job"].flatMap((name) => store.all(kindOf(name)).map(({ metadata }) => metadata.uid)),
  );
  for (const pod of store.all(kindOf("Pod"))) {
    const [owner] = pod.metadata.ownerReferences ?? [];
    if (owner !== undefined && !alive.has(owner.uid)) removePod(world, pod);
  }
}

function hash(text: string): string {
  let sum = 0;
  for (const character of text) sum = (sum * 31 + character.charCodeAt(0)) >>> 0;
  return sum.toString(16);
}
