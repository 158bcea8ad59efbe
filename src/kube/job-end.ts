import type { JobState } from "./job-view.ts";
import type { Condition, ContainerStatus, Job, Pod } from "./workloads.ts";

/** How a Job ended. */
export interface JobRun {
  /** Of the container of the last Pod; where no Pod is left that says so, 0 for a Job that is complete, and 137 (killed) else. */
  readonly exitStatus: number;
  /** The last Pod. */
  readonly pod: string | undefined;
  /** Why it ended otherwise than by itself: `Evicted`, `OOMKilled`, `DeadlineExceeded`. */
  readonly reason: string | undefined;
  /** What the node or the controller says of the reason. */
  readonly detail: string | undefined;
}

const killed = 137;

/** What a Job that has this condition came to. Pure. */
export function jobRun({ pods }: JobState, condition: Condition): JobRun {
  const last = pods.at(-1)?.pod;
  const exit = last === undefined ? undefined : exitOf(last);
  const name = last?.metadata.name;
  if (condition.type === "Complete") {
    // Of Pods that began in the same second it is not known which is the last.
    return { exitStatus: 0, pod: name, reason: undefined, detail: undefined };
  }
  const why = last === undefined ? undefined : whyEnded(last);
  // The controller's own reasons, such as BackoffLimitExceeded, say no more than that the container failed; this one ends it.
  const isLate = condition.reason === "DeadlineExceeded";
  const reason = isLate || (exit === undefined && why === undefined) ? condition.reason : why?.reason;
  const detail = reason === why?.reason ? why?.detail : condition.message;
  return { exitStatus: exit ?? exitIn(condition) ?? killed, pod: name, reason, detail };
}

/** The condition by which a Job is over; `undefined` while it is not. */
export function endOf(job: Job): Condition | undefined {
  return job.status?.conditions?.find(
    ({ type, status }) => status === "True" && (type === "Complete" || type === "Failed"),
  );
}

/** True when the container that does the work has begun: there may be a log. */
export function hasBegun(pod: Pod): boolean {
  const state = mainOf(pod)?.state;
  return state?.running !== undefined || state?.terminated !== undefined;
}

export function isOver({ status }: Pod): boolean {
  return status?.phase === "Failed" || status?.phase === "Succeeded";
}

/** `Evicted: The node was low on resource: memory.`, or `exit status 3`: for messages. */
export function endText(pod: Pod): string {
  const why = whyEnded(pod);
  if (why !== undefined) return why.detail === undefined ? why.reason : `${why.reason}: ${why.detail}`;
  const exit = exitOf(pod);
  return exit === undefined ? "gone" : `exit status ${exit}`;
}

/** Why a Pod did not come to an end by itself; `undefined` where it did, or where it does not say. */
function whyEnded({ status, ...pod }: Pod): { reason: string; detail: string | undefined } | undefined {
  if (status?.reason !== undefined) return { reason: status.reason, detail: status.message };
  const disruption = status?.conditions?.find((each) => each.type === "DisruptionTarget" && each.status === "True");
  if (disruption?.reason !== undefined) return { reason: disruption.reason, detail: disruption.message };
  const terminated = mainOf({ status: status ?? {}, ...pod })?.state?.terminated;
  const reason = terminated?.reason;
  if (reason === undefined || reason === "Completed" || reason === "Error") return undefined;
  return { reason, detail: terminated?.message };
}

/** Where an init container failed, its exit status. */
function exitOf(pod: Pod): number | undefined {
  const main = mainOf(pod)?.state?.terminated;
  if (main !== undefined) return main.exitCode;
  const before = pod.status?.initContainerStatuses?.map(({ state }) => state?.terminated?.exitCode);
  return before?.find((code) => code !== undefined && code !== 0);
}

function mainOf({ spec, status }: Pod): ContainerStatus | undefined {
  const name = mainContainer(spec);
  return status?.containerStatuses?.find((each) => each.name === name);
}

/** The container whose exit status and log are those of the Job: the first, as `kubectl logs` has it. */
export function mainContainer(spec: Pod["spec"]): string {
  return spec?.containers?.[0]?.name ?? "";
}

/** `Container pgkit for pod databases/x failed with exit code 12 matching FailJob rule at index 1`. */
function exitIn({ message }: Condition): number | undefined {
  const code = /\bexit code (\d+)/.exec(message ?? "")?.[1];
  return code === undefined ? undefined : Number(code);
}

/** What a Job whose container has not begun waits for; `isTrouble` where that does not pass by itself as a rule. Pure. */
export function whyNotBegun({ job, pods }: JobState): { readonly text: string; readonly isTrouble: boolean } {
  const alive = pods.filter(({ pod, isGone }) => !isGone && !isOver(pod)).at(-1)?.pod;
  if (alive === undefined) {
    if (job?.spec?.suspend === true) return { text: "the Job is suspended", isTrouble: true };
    return { text: "no Pod was made for it: a quota, or an admission policy?", isTrouble: false };
  }
  const { name } = alive.metadata;
  const all = [...(alive.status?.initContainerStatuses ?? []), ...(alive.status?.containerStatuses ?? [])];
  const waiting = all.map(({ state }) => state?.waiting).find((each) => each?.reason !== undefined);
  const unscheduled = alive.status?.conditions?.find((each) => each.type === "PodScheduled" && each.status === "False");
  const found = waiting ?? unscheduled;
  if (found?.reason === undefined) return { text: `Pod ${name} has not begun`, isTrouble: false };
  const said = found.message === undefined ? "" : `: ${found.message}`;
  const isTrouble = found.reason !== "ContainerCreating" && found.reason !== "PodInitializing";
  return { text: `Pod ${name} waits: ${found.reason}${said}`, isTrouble };
}
