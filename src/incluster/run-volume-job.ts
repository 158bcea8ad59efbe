import type { JobRun } from "../kube/job-end.ts";
import type { Manifest, ObjectRef } from "../kube/kube.ts";
import { runJob } from "../kube/run-job.ts";
import { waitFor } from "../kube/wait.ts";
import type { CronJob, Job, JobSpec } from "../kube/workloads.ts";
import { PgkitError } from "../lib/errors.ts";
import { workloadName } from "../manifests/names.ts";
import type { LogReader, RestoreContext } from "./facts.ts";
import { scheduledJob, type VolumeJob, volumeJob } from "./job.ts";
import { assertUnused, serverNow, whileDown } from "./pods.ts";

/** Runs pgkit on the volume of a server that is scaled to 0; gives its document. Run again it goes on with the same Job. */
export async function runOnVolume(
  context: RestoreContext,
  does: "restore" | "put-back",
  args: readonly string[],
  node: string | undefined,
): Promise<unknown> {
  const server = await serverNow(context);
  await assertUnused(context, server);
  const where = node === undefined ? undefined : { name: node, must: false };
  const manifest = await volumeManifest(context, { does, args, server, node: where });
  return whileDown(context, (signal) => runToItsEnd({ ...context, signal }, manifest));
}

/** Runs pgkit on a volume that nobody else has. */
export async function runOnNewVolume(context: RestoreContext, args: readonly string[]): Promise<unknown> {
  const server = await serverNow(context);
  return runToItsEnd(context, await volumeManifest(context, { does: "beside", args, server, node: undefined }));
}

/** Runs pgkit beside the server that has the volume, on its node. */
export async function runBeside(context: RestoreContext, args: readonly string[], node: string): Promise<unknown> {
  const server = await serverNow(context);
  const manifest = await volumeManifest(context, { does: "drop", args, server, node: { name: node, must: true } });
  return runToItsEnd(context, manifest);
}

async function volumeManifest(
  context: RestoreContext,
  parts: Pick<VolumeJob, "does" | "args" | "server" | "node">,
): Promise<Manifest> {
  const { restore, actor } = context;
  // Those of a verification have what opens encrypted backups.
  const { template = {} } =
    (await scheduled(context, "verify")) ?? (await scheduled(context, "base")) ?? noTemplate(context);
  return volumeJob({ ...parts, restore, template, volume: restore.volume, actor });
}

/** A base backup as its CronJob takes it, with its WAL inside: the streamer may need a while on a new timeline. */
export async function runBaseBackup(context: RestoreContext): Promise<unknown> {
  const spec = (await scheduled(context, "base")) ?? noTemplate(context);
  const words = ["--with-wal", "--progress=events"];
  return runToItsEnd(context, scheduledJob(context.restore, "base", spec, words));
}

/** What a CronJob of `pgkit manifests` runs; `undefined` where there is none. */
export async function scheduled(
  {
    kube,
    restore,
    signal,
  }: Pick<RestoreContext, "kube" | "signal"> & { restore: { namespace: string; instance: string } },
  kind: "base" | "verify",
): Promise<JobSpec | undefined> {
  const { namespace, instance } = restore;
  const name = workloadName(kind, instance);
  const found = await kube.get<CronJob>({ apiVersion: "batch/v1", kind: "CronJob", namespace, name }, signal);
  return found?.spec?.jobTemplate?.spec;
}

function noTemplate({ restore }: RestoreContext): never {
  const name = workloadName("base", restore.instance);
  throw new PgkitError("restore-refused", `there is no CronJob ${restore.namespace}/${name} any more`, {
    hint: "apply what pgkit manifests renders, and run the same command again",
  });
}

/** A Job that failed in an earlier run is made anew; one that runs, or is done, is taken up. */
async function runToItsEnd(context: RestoreContext, manifest: Manifest): Promise<unknown> {
  const { kube, clock, report, patience, signal } = context;
  await removeFailed(context, manifest);
  // Each Pod begins anew, and which one is heard of last does not say which one came last.
  const readers = new Map<string, LogReader>();
  const onLine = (line: string, pod: string) => {
    const reader = readers.get(pod) ?? context.newReader();
    readers.set(pod, reader);
    reader.take(line, pod);
  };
  let run: JobRun;
  try {
    run = await runJob(kube, manifest, { onLine, clock, report, startWithinMs: patience.startMs }, signal);
  } finally {
    for (const reader of readers.values()) reader.end("its Pod is not followed any more");
  }
  if (run.exitStatus !== 0) throw jobError(manifest, run, readers.get(run.pod ?? ""));
  const document = [...readers.values()].map((reader) => reader.result()).find((result) => result !== undefined);
  if (document !== undefined) return document.json;
  await removeJob(context, manifest);
  throw new PgkitError(
    "kube-failed",
    `Job ${manifest.metadata.name} is done, and the log that says what it came to is gone`,
    {
      hint: "run the same command again: what is done is not done twice",
    },
  );
}

function jobError({ metadata: { name } }: Manifest, run: JobRun, reader: LogReader | undefined): PgkitError {
  const { exitStatus, reason, detail } = run;
  const said = reader?.error();
  if (said !== undefined && reason === undefined) {
    const hint = said.hint === undefined ? {} : { hint: said.hint };
    return new PgkitError(said.code, `Job ${name}: ${said.message}`, { ...hint, cause: said });
  }
  const why = [reason, detail].filter((text) => text !== undefined).join(": ");
  const message = `Job ${name} ended with exit status ${exitStatus}${why === "" ? "" : ` (${why})`}`;
  const words = reader?.lastWords();
  return new PgkitError("kube-failed", message, {
    hint: words === undefined ? "it said nothing" : `its last words: ${words}`,
  });
}

async function removeFailed(context: RestoreContext, manifest: Manifest): Promise<void> {
  const found = await context.kube.get<Job>(refOf(manifest), context.signal);
  const conditions = found?.status?.conditions ?? [];
  if (conditions.some(({ type, status }) => type === "Failed" && status === "True")) await removeJob(context, manifest);
}

/** With its Pods, and waits until they have gone. Changes nothing where there is no such Job. */
export async function removeJob(
  { kube, clock, patience, signal }: RestoreContext,
  { metadata }: Pick<Manifest, "metadata">,
): Promise<void> {
  const ref = refOf({ metadata });
  if (!(await kube.delete(ref, { propagation: "foreground" }, signal))) return;
  const until = (job: Job | undefined) => (job === undefined ? { done: true } : { waiting: "it and its Pods to go" });
  await waitFor<Job, boolean>(kube, ref, { until, withinMs: patience.podMs, clock }, signal);
}

function refOf({ metadata }: Pick<Manifest, "metadata">): ObjectRef {
  return { apiVersion: "batch/v1", kind: "Job", namespace: metadata.namespace, name: metadata.name };
}
