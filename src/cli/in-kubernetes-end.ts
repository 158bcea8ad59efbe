import type { JobRun } from "../kube/job-end.ts";
import { type ErrorCode, errorCodes, PgkitError } from "../lib/errors.ts";
import type { CommandContext } from "./command.ts";
import type { EventReader } from "./events.ts";

/** Prints the result of a Job that has ended and gives its exit status; fails as it did. */
export function concludeJob({ out }: CommandContext, job: string, run: JobRun, events: EventReader): number {
  events.end("the Job has ended");
  if (run.reason !== undefined) throw endedBy(job, run, run.reason);
  const error = events.error();
  if (error !== undefined) throw error;
  const result = events.result();
  if (result !== undefined) {
    out.result(result);
    return run.exitStatus;
  }
  const words = events.lastWords();
  const said = words === undefined ? "" : `: ${words}`;
  if (run.exitStatus === 0) {
    throw new PgkitError("kube-failed", `${job} is done, and its result did not come with its log${said}`, {
      hint: "is its image as new as this pgkit? pgkit list shows what is stored",
    });
  }
  throw new PgkitError(codeOf(run.exitStatus), `${job} ended with exit status ${run.exitStatus}${said}`, {
    hint: "is its image as new as this pgkit, and its configuration that of the cluster?",
  });
}

/** What was ended from outside is told as that, whatever the process said in its last moments. */
function endedBy(job: string, { pod, detail }: JobRun, reason: string): PgkitError {
  const said = detail === undefined ? "" : `: ${detail}`;
  const where = pod === undefined ? "" : ` (Pod ${pod})`;
  const [, hint = usualHint] = Object.entries(hints).find(([known]) => known === reason) ?? [];
  return new PgkitError("kube-failed", `${job} did not come to its end: ${reason}${where}${said}`, { hint });
}

const usualHint = "what was under way does not count: run the command again";

const hints = {
  Evicted:
    "the node had too little of something: run the command again; where it was /scratch: --scratch-size, or kubernetes.restoreScratchClass",
  OOMKilled: "it took more memory than its limit: raise it in the CronJob, for a restore by kubernetes.restoreMemory",
  DeadlineExceeded: "it took longer than its activeDeadlineSeconds: kubernetes.deadline of the configuration",
} as const;

/** The first code with this exit status, so that ours is the Job's. */
function codeOf(status: number): ErrorCode {
  const found = Object.entries(errorCodes).find(([code, { exit }]) => exit === status && code !== "bug");
  return (found?.[0] as ErrorCode | undefined) ?? "kube-failed";
}
