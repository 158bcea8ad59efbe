import { type KubeObject, nameOf, type ObjectRef } from "../kube/kube.ts";
import { waitFor } from "../kube/wait.ts";
import type { Pod, Workload } from "../kube/workloads.ts";
import { PgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import type { RestoreContext } from "./facts.ts";
import { readServer } from "./find-server.ts";
import { restoreLabel } from "./names.ts";
import { podNameOf } from "./server-volume.ts";

const podKind = { apiVersion: "v1", kind: "Pod" };

export function serverRef({ namespace, statefulSet }: RestoreContext["restore"]): ObjectRef {
  return { apiVersion: "apps/v1", kind: "StatefulSet", namespace, name: statefulSet };
}

export async function serverNow({ kube, restore, signal }: RestoreContext): Promise<Workload> {
  return readServer(kube, { namespace: restore.namespace, name: restore.statefulSet }, signal);
}

/** Its Pod, `undefined` where there is none. */
export async function serverPod(context: RestoreContext, server: Workload): Promise<Pod | undefined> {
  const { kube, restore, signal } = context;
  return kube.get<Pod>({ ...podKind, namespace: restore.namespace, name: podNameOf(server) }, signal);
}

/** Sets the number of Pods; nothing else of the StatefulSet is changed. */
export async function scaleTo({ kube, signal }: RestoreContext, workload: ObjectRef, replicas: number): Promise<void> {
  await kube.patch(workload, { merge: { spec: { replicas } }, subresource: "scale" }, signal);
}

/** Waits until the only Pod of a StatefulSet has gone. Fails with `kube-failed`, saying what holds it. */
export async function waitUntilGone(context: RestoreContext, server: Workload): Promise<void> {
  const { kube, restore, clock, patience, signal } = context;
  const ref = { ...podKind, namespace: restore.namespace, name: podNameOf(server) };
  const until = (pod: Pod | undefined) => (pod === undefined ? { done: true } : { waiting: whatHolds(pod) });
  await waitFor<Pod, boolean>(kube, ref, { until, withinMs: patience.podMs, clock }, signal);
}

function whatHolds({ metadata, spec }: Pod): string {
  const { finalizers = [] } = metadata as { finalizers?: readonly string[] };
  if (metadata.deletionTimestamp === undefined)
    return "its Pod to be told to end: does the controller of StatefulSets run?";
  if (finalizers.length > 0) return `its Pod to end: its finalizers ${finalizers.join(", ")} hold it`;
  const seconds = (spec as { terminationGracePeriodSeconds?: number } | undefined)?.terminationGracePeriodSeconds ?? 30;
  return `its Pod on node ${spec?.nodeName ?? "unknown"} to end, which it may take ${formatDuration(seconds * 1000)} for: is that node alive?`;
}

/** Waits until the server's Pod is ready. Fails with `kube-failed` and what the Pod says of itself. */
export async function waitUntilReady(context: RestoreContext, server: Workload): Promise<void> {
  const { kube, restore, clock, patience, signal } = context;
  const ref = { ...podKind, namespace: restore.namespace, name: podNameOf(server) };
  const until = (pod: Pod | undefined) =>
    pod !== undefined && isReady(pod) ? { done: true } : { waiting: whyNot(pod) };
  await waitFor<Pod, boolean>(kube, ref, { until, withinMs: patience.podMs, clock }, signal);
}

export function isReady({ metadata, status }: Pod): boolean {
  const statuses = status?.containerStatuses ?? [];
  const isUp = statuses.length > 0 && statuses.every(({ ready }) => ready === true);
  return metadata.deletionTimestamp === undefined && status?.phase === "Running" && isUp;
}

function whyNot(pod: Pod | undefined): string {
  if (pod === undefined) return "its Pod to be made";
  const states = (pod.status?.containerStatuses ?? []).flatMap(({ name, ready, state }) => {
    const { waiting, terminated } = state ?? {};
    const said =
      waiting?.reason ?? (terminated === undefined ? "it is not ready" : `exit status ${terminated.exitCode}`);
    return ready === true ? [] : [`${name}: ${said}`];
  });
  return `its Pod to be ready (${states.join(", ") || (pod.status?.phase ?? "no status")})`;
}

/** Fails with `kube-conflict` where the server is scaled up, or a Pod that is not of this restore has its volume. */
export async function assertUnused(context: RestoreContext, server: Workload): Promise<void> {
  const { kube, restore, signal } = context;
  if ((server.spec?.replicas ?? 1) > 0) throw scaledUp(server);
  const { objects } = await kube.list<Pod>(podKind, { namespace: restore.namespace }, signal);
  const user = objects.find((pod) => has(pod, restore.volume.claim) && !isOver(pod) && !isOurs(pod, restore.id));
  if (user === undefined) return;
  const what = nameOf({ kind: "Pod", namespace: restore.namespace, name: user.metadata.name });
  throw new PgkitError("kube-conflict", `${what} uses the volume ${restore.volume.claim} that is to be restored`, {
    hint: "end it, and run the same command again",
  });
}

function has({ spec }: Pod, claim: string): boolean {
  return spec?.volumes?.some(({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName === claim) === true;
}

function isOver({ status }: Pod): boolean {
  return status?.phase === "Succeeded" || status?.phase === "Failed";
}

function isOurs({ metadata }: KubeObject, id: string): boolean {
  return metadata.labels?.[restoreLabel] === id.toLowerCase();
}

/** Runs `work` while the StatefulSet stays at no Pods: its signal is aborted when somebody scales it up. */
export async function whileDown<T>(context: RestoreContext, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const [up, done] = [new AbortController(), new AbortController()];
  const watching = watchScale(context, AbortSignal.any([context.signal, done.signal]), (error) => up.abort(error));
  try {
    return await work(AbortSignal.any([context.signal, up.signal]));
  } catch (error) {
    throw up.signal.aborted ? up.signal.reason : error;
  } finally {
    done.abort();
    await watching;
  }
}

async function watchScale(
  { kube, restore }: RestoreContext,
  signal: AbortSignal,
  stop: (error: unknown) => void,
): Promise<void> {
  const { namespace, name, ...kind } = serverRef(restore);
  try {
    for await (const { type, object } of kube.watch<Workload>(kind, { namespace, name }, signal)) {
      if (type === "present" && (object.spec?.replicas ?? 1) > 0) return stop(scaledUp(object));
    }
  } catch (error) {
    if (!signal.aborted) stop(error);
  }
}

function scaledUp({ metadata, spec }: Workload): PgkitError {
  const of = (metadata.managedFields ?? []).filter(
    ({ fieldsV1, manager }) => manager !== "pgkit" && Object.hasOwn(fieldsV1?.["f:spec"] ?? {}, "f:replicas"),
  );
  const who = of.toSorted((a, b) => ((a.time ?? "") < (b.time ?? "") ? 1 : -1))[0]?.manager;
  const by = who === undefined ? "somebody" : `the field manager ${who}`;
  const message = `StatefulSet ${metadata.namespace}/${metadata.name} was scaled to ${spec?.replicas ?? 1} by ${by} while its volume is to be restored`;
  return new PgkitError("kube-conflict", message, {
    hint: "pause what scales it (an autoscaler, GitOps, an operator, a colleague), and run the same command again",
  });
}
