import type { Clock } from "../lib/time.ts";
import type { Kube } from "./kube.ts";
import type { Job, Pod } from "./workloads.ts";

/** A Pod of a Job as it was last seen. */
export interface SeenPod {
  readonly pod: Pod;
  readonly isGone: boolean;
}

/** A Job and its Pods, in the order in which they were made; `job` is `undefined` once it is gone. */
export interface JobState {
  readonly job: Job | undefined;
  readonly pods: readonly SeenPod[];
}

export interface JobView {
  state(): JobState;
  /** Waits until `decide` gives an answer: it is asked now, at each change, and once it is late, which is after `lateMs`. */
  until<R>(decide: (state: JobState, isLate: boolean) => R | undefined, lateMs?: number): Promise<R>;
  /** Asks for the Pods as they are at this moment, later than whatever was watched before. */
  refresh(): Promise<void>;
}

export const jobKind = { apiVersion: "batch/v1", kind: "Job" };
const podKind = { apiVersion: "v1", kind: "Pod" };

/** Watches a Job and its Pods until the signal. Another Job of its name is not this one. */
export function viewJob(kube: Kube, job: Job, clock: Clock, signal: AbortSignal): JobView {
  const seen: Seen = { job, pods: new Map(), failure: undefined, change: Promise.withResolvers() };
  for (const watching of [watchJob(kube, job, seen, signal), watchPods(kube, job, seen, signal)]) {
    watching.catch((error) => {
      seen.failure ??= { error };
      wake(seen);
    });
  }
  return {
    state: () => stateOf(seen),
    until: (decide, lateMs) => until(seen, decide, { lateMs, clock, signal }),
    async refresh() {
      const { objects } = await kube.list<Pod>(podKind, podsOf(job), signal);
      for (const pod of objects) see(seen, job, pod, false);
    },
  };
}

interface Seen {
  job: Job | undefined;
  pods: Map<string, SeenPod>;
  failure: { readonly error: unknown } | undefined;
  change: PromiseWithResolvers<void>;
}

function wake(seen: Seen): void {
  seen.change.resolve();
  seen.change = Promise.withResolvers();
}

async function watchJob(kube: Kube, job: Job, seen: Seen, signal: AbortSignal): Promise<void> {
  const { namespace, name, uid } = job.metadata;
  for await (const { type, object } of kube.watch<Job>(jobKind, { namespace, name, known: [job] }, signal)) {
    seen.job = type === "gone" || object.metadata.uid !== uid ? undefined : object;
    wake(seen);
  }
}

async function watchPods(kube: Kube, job: Job, seen: Seen, signal: AbortSignal): Promise<void> {
  for await (const { type, object } of kube.watch<Pod>(podKind, podsOf(job), signal)) {
    see(seen, job, object, type === "gone");
  }
}

/** The label of before 1.27, which is still set. */
function podsOf({ metadata: { namespace, name } }: Job) {
  return { namespace, labels: `job-name=${name}` };
}

function see(seen: Seen, job: Job, pod: Pod, isGone: boolean): void {
  if (pod.metadata.ownerReferences?.some(({ uid }) => uid === job.metadata.uid) !== true) return;
  seen.pods.set(pod.metadata.name, { pod, isGone });
  wake(seen);
}

async function until<R>(
  seen: Seen,
  decide: (state: JobState, isLate: boolean) => R | undefined,
  { lateMs, clock, signal }: { lateMs: number | undefined; clock: Clock; signal: AbortSignal },
): Promise<R> {
  const over = new AbortController();
  const waking = AbortSignal.any([signal, over.signal]);
  let isLate = false;
  if (lateMs !== undefined) {
    clock.delay(lateMs, waking).then(
      () => {
        isLate = true;
        wake(seen);
      },
      () => undefined,
    );
  }
  try {
    for (;;) {
      signal.throwIfAborted();
      if (seen.failure !== undefined) throw seen.failure.error;
      const changed = seen.change.promise;
      const answer = decide(stateOf(seen), isLate);
      if (answer !== undefined) return answer;
      await changed;
    }
  } finally {
    over.abort();
  }
}

function stateOf({ job, pods }: Seen): JobState {
  return { job, pods: [...pods.values()].sort(byAge) };
}

/** To the second; those of one second as they were first seen. */
function byAge({ pod: a }: SeenPod, { pod: b }: SeenPod): number {
  const [x, y] = [a.metadata.creationTimestamp ?? "", b.metadata.creationTimestamp ?? ""];
  return x < y ? -1 : x > y ? 1 : 0;
}
