import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import { endOf, endText, hasBegun, isOver, type JobRun, jobRun, mainContainer, whyNotBegun } from "./job-end.ts";
import { type JobState, type JobView, jobKind, viewJob } from "./job-view.ts";
import { type Kube, type Manifest, nameOf, refOf } from "./kube.ts";
import { waitFor } from "./wait.ts";
import type { Condition, Job, Pod } from "./workloads.ts";

export interface JobOptions {
  /** Called with each line that the container writes, and the Pod that it is of. */
  onLine(line: string, pod: string): void;
  readonly clock: Clock;
  readonly report: Report;
  /** How long a Pod may take to begin, 10 minutes where left out: a node may have to come first, and then a large image. */
  readonly startWithinMs?: number | undefined;
}

const usualStartMs = 600_000;

/**
 * Creates the Job (or takes up the one of this name, which is the same run), follows its log line by line, and waits for its
 * end. A Pod that is replaced is followed by its successor. When the signal comes, the Job is ended first. Fails with
 * `kube-failed` where no Pod begins in time, which ends the Job too, and where somebody deletes it.
 */
export async function runJob(
  kube: Kube,
  manifest: Manifest,
  options: JobOptions,
  signal: AbortSignal,
): Promise<JobRun> {
  const watching = new AbortController();
  let job: Job | undefined;
  try {
    job = await startJob(kube, manifest, options.report, signal);
    const view = viewJob(kube, job, options.clock, AbortSignal.any([signal, watching.signal]));
    return await follow({ kube, view, job, options, signal });
  } catch (error) {
    // One whose creation was cut may be there too; another run does not have its name.
    if (signal.aborted) await endJob(kube, job ?? manifest, options);
    else if (job !== undefined && isPgkitError(error, "kube-denied", "kube-unreachable")) sayRunsOn(job, options);
    throw error;
  } finally {
    watching.abort();
  }
}

/** Creates the Job, or gives the one of this name that is there. */
export async function startJob(kube: Kube, manifest: Manifest, report: Report, signal: AbortSignal): Promise<Job> {
  try {
    return await kube.create<Job>(manifest, signal);
  } catch (error) {
    if (!isPgkitError(error, "kube-conflict")) throw error;
    const found = await kube.get<Job>(refOf(manifest), signal);
    if (found === undefined || found.metadata.deletionTimestamp !== undefined) throw error;
    report({ type: "note", message: `${titleOf(found)} is there already, and is taken up` });
    return found;
  }
}

interface Run {
  readonly kube: Kube;
  readonly view: JobView;
  readonly job: Job;
  readonly options: JobOptions;
  readonly signal: AbortSignal;
}

type Next =
  | { readonly type: "pod"; readonly pod: Pod }
  | { readonly type: "end"; readonly condition: Condition }
  | { readonly type: "gone" }
  | { readonly type: "stuck"; readonly because: string };

async function follow(run: Run): Promise<JobRun> {
  const { view, job, options, kube } = run;
  const read = new Set<string>();
  for (;;) {
    const next = await nextOf(run, read);
    if (next.type === "pod") {
      sayReplaced(run, next.pod);
      read.add(next.pod.metadata.name);
      await readLog(run, next.pod);
    } else if (next.type === "end") {
      return jobRun(view.state(), next.condition);
    } else if (next.type === "gone") {
      throw new PgkitError("kube-failed", `${titleOf(job)} was deleted by somebody before it ended`, {
        hint: "what it was doing is not done: run the command again",
      });
    } else {
      await endJob(kube, job, options);
      const within = formatDuration(options.startWithinMs ?? usualStartMs);
      throw new PgkitError("kube-failed", `${titleOf(job)} did not begin within ${within}: ${next.because}`, {
        hint: `kubectl -n ${job.metadata.namespace} get events says more; it was ended, and nothing was done`,
      });
    }
  }
}

/** The next Pod whose log is to be read, or what became of the Job. */
async function nextOf({ view, options }: Run, read: ReadonlySet<string>): Promise<Next> {
  const { report, startWithinMs = usualStartMs } = options;
  // Nodes alternate between two ways to say the same.
  const said = new Set<string>();
  const decide = (state: JobState, isLate: boolean): Next | undefined => {
    const found = whatIsNext(state, read);
    if (found !== undefined) return found;
    const { text, isTrouble } = whyNotBegun(state);
    if (isLate) return { type: "stuck", because: text };
    if (isTrouble && !said.has(text)) report({ type: "warning", message: text });
    said.add(text);
    return undefined;
  };
  const next = await view.until(decide, startWithinMs);
  if (next.type !== "end") return next;
  // What was watched of the Pods may be older than what was watched of the Job.
  await view.refresh();
  return whatIsNext(view.state(), read) ?? next;
}

function whatIsNext({ job, pods }: JobState, read: ReadonlySet<string>): Next | undefined {
  const begun = pods.find(({ pod, isGone }) => !isGone && hasBegun(pod) && !read.has(pod.metadata.name));
  if (begun !== undefined) return { type: "pod", pod: begun.pod };
  if (job === undefined) return { type: "gone" };
  const condition = endOf(job);
  return condition === undefined ? undefined : { type: "end", condition };
}

function sayReplaced({ view, options, job }: Run, { metadata: { name } }: Pod): void {
  const { pods } = view.state();
  const before = pods[pods.findIndex(({ pod }) => pod.metadata.name === name) - 1]?.pod;
  if (before === undefined) return;
  options.report({
    type: "warning",
    message: `Pod ${before.metadata.name} of ${titleOf(job)} ended (${endText(before)}); Pod ${name} takes its place`,
  });
}

/** Until the container has ended. The Job's own end counts, whether its log can be read or not. */
async function readLog({ kube, view, options, signal }: Run, { metadata, spec }: Pod): Promise<void> {
  const { name: pod, namespace = "" } = metadata;
  try {
    for await (const line of kube.log({ namespace, pod, container: mainContainer(spec) }, signal)) {
      options.onLine(line, pod);
    }
  } catch (error) {
    if (signal.aborted || !isPgkitError(error) || error.code === "kube-denied") throw error;
    const goesOn = view
      .state()
      .pods.some((each) => each.pod.metadata.name === pod && !each.isGone && !isOver(each.pod));
    if (goesOn) {
      const message = `the log of Pod ${pod} cannot be read to its end: ${error.message}`;
      options.report({ type: "warning", message, hint: error.hint });
    }
  }
  await view.until(({ job, pods }) => {
    const now = pods.find((each) => each.pod.metadata.name === pod);
    const hasEnded = now === undefined || now.isGone || isOver(now.pod);
    return hasEnded || job === undefined || endOf(job) !== undefined ? true : undefined;
  });
}

/** Longer than a Pod of pgkit may take to end, which is a minute. */
const endWithinMs = 120_000;

/** Deletes the Job with its Pods, and waits until they have ended. Says so where it cannot. */
export async function endJob(
  kube: Kube,
  job: Job | Manifest,
  { clock, report }: Pick<JobOptions, "clock" | "report">,
): Promise<void> {
  const { uid } = job.metadata;
  const ref = { ...jobKind, name: job.metadata.name, namespace: job.metadata.namespace };
  const signal = AbortSignal.timeout(endWithinMs);
  report({ type: "note", message: `ending ${titleOf(job)}` });
  const until = (found: Job | undefined) =>
    found === undefined || (uid !== undefined && found.metadata.uid !== uid)
      ? { done: true }
      : { waiting: "its Pods to end" };
  try {
    await kube.delete(ref, { uid, propagation: "foreground" }, signal);
    await waitFor<Job, boolean>(kube, ref, { until, withinMs: endWithinMs, clock }, signal);
    report({ type: "note", message: `${titleOf(job)} has ended` });
  } catch (error) {
    // Whoever waits for this has an error of its own to be told.
    const message = `${titleOf(job)} may run on: ${error instanceof Error ? error.message : String(error)}`;
    report({ type: "warning", message, hint: `kubectl -n ${ref.namespace} delete job ${ref.name}` });
  }
}

function sayRunsOn(job: Job, { report }: JobOptions): void {
  const hint = `kubectl -n ${job.metadata.namespace} logs -f job/${job.metadata.name}`;
  report({ type: "warning", message: `${titleOf(job)} runs on, and cannot be followed`, hint });
}

function titleOf({ metadata: { namespace, name } }: Job | Manifest): string {
  return nameOf({ kind: "Job", namespace, name });
}
