import type { JobRun } from "../kube/job-end.ts";
import type { Kube, Manifest } from "../kube/kube.ts";
import type { CronJob } from "../kube/workloads.ts";
import { PgkitError } from "../lib/errors.ts";
import type { JobRoom, JobTemplate } from "../manifests/one-job.ts";
import type { ScheduledKind } from "../manifests/request.ts";
import { auditActor } from "./actor.ts";
import type { CommandContext } from "./command.ts";
import type { InstanceConfig } from "./config.ts";
import { eventReader } from "./events.ts";
import { concludeJob } from "./in-kubernetes-end.ts";

/** What is to run in the cluster. */
export interface InKubernetes {
  /** The jobs whose Pods have what this needs, the best first: the first that the cluster has as a CronJob is taken. */
  readonly like: readonly [ScheduledKind, ...ScheduledKind[]];
  /** Whose jobs. */
  readonly instance: InstanceConfig;
  /** In the name of the Job. */
  readonly title: ScheduledKind | "restore";
  /** The command line in the Job. */
  readonly args: readonly string[];
  readonly detach: boolean;
  /** What it may take where it is more than those jobs may. */
  readonly room?: JobRoom;
}

/**
 * Runs a pgkit command as a Job of the cluster that is like those of its CronJobs, follows it here, and gives its exit status: its
 * result is ours, its error is thrown.
 */
export async function runInKubernetes(context: CommandContext, work: InKubernetes): Promise<number> {
  const { runJob, startJob } = await import("../kube/run-job.ts");
  const { report, signal, clock } = context;
  const kube = await context.kube();
  const manifest = await jobManifest(context, kube, work);
  const { name, namespace } = manifest.metadata;
  const follow = `kubectl -n ${namespace} logs -f job/${name}`;
  if (work.detach) {
    await startJob(kube, manifest, report, signal);
    context.out.result({ json: { job: { namespace, name } }, text: `Job ${namespace}/${name} runs: ${follow}` });
    return 0;
  }
  report({ type: "note", message: `Job ${namespace}/${name} runs \`pgkit ${work.args.join(" ")}\`; Ctrl-C ends it` });
  const events = eventReader(report);
  let run: JobRun;
  try {
    run = await runJob(kube, manifest, { onLine: events.take, clock, report }, signal);
  } catch (error) {
    events.end("it is not followed any more");
    throw error;
  }
  return concludeJob(context, `Job ${namespace}/${name}`, run, events);
}

async function jobManifest(context: CommandContext, kube: Kube, work: InKubernetes): Promise<Manifest> {
  const { oneJob } = await import("../manifests/one-job.ts");
  const { workloadName } = await import("../manifests/names.ts");
  const { clock, config, env } = context;
  const { namespace } = config.inCluster;
  const { template, cronJob } = await templateOf(context, kube, work);
  const seconds = Math.floor(clock.now().getTime() / 1000).toString(36);
  const dice = Math.floor(clock.random() * 36 ** 2).toString(36);
  const { who, from } = auditActor({ env });
  return oneJob(template, {
    name: `${workloadName(work.title, work.instance.name)}-${seconds}${dice.padStart(2, "0")}`,
    namespace,
    args: work.args,
    startedBy: `${who} on ${from.host}`,
    cronJob,
    room: work.room,
  });
}

interface Template {
  readonly template: JobTemplate;
  readonly cronJob: { readonly name: string; readonly uid: string } | undefined;
}

/** Of a CronJob as the cluster has it, where it has one; else as it would be rendered. Says which. */
async function templateOf(context: CommandContext, kube: Kube, { like, instance }: InKubernetes): Promise<Template> {
  const { workloadName } = await import("../manifests/names.ts");
  const { config, report, signal } = context;
  const { namespace } = config.inCluster;
  for (const kind of like) {
    const name = workloadName(kind, instance.name);
    const found = await kube.get<CronJob>({ apiVersion: "batch/v1", kind: "CronJob", namespace, name }, signal);
    if (found?.spec?.jobTemplate === undefined) continue;
    report({ type: "note", message: `a Pod as those of CronJob ${namespace}/${name} is started` });
    return { template: found.spec.jobTemplate, cronJob: { name, uid: found.metadata.uid ?? "" } };
  }
  const [kind] = like;
  const message = `there is no CronJob ${namespace}/${workloadName(kind, instance.name)}: a Pod as ${config.file} would have it is started`;
  report({ type: "note", message });
  return { template: await renderedTemplate(context, kube, kind, instance), cronJob: undefined };
}

async function renderedTemplate(
  { config, signal }: CommandContext,
  kube: Kube,
  kind: ScheduledKind,
  instance: InstanceConfig,
): Promise<JobTemplate> {
  const { manifestsRequest } = await import("./manifests-request.ts");
  const { jobTemplate } = await import("../manifests/jobs.ts");
  const { serviceAccountName } = await import("../manifests/names.ts");
  const request = await manifestsRequest(config, [instance], { needsSchedule: false });
  const [rendered] = request.instances;
  if (rendered === undefined) throw new PgkitError("bug", `instance ${instance.name} was not rendered`);
  const name = serviceAccountName(kind);
  const { namespace } = request;
  // Without it no Pod would ever be made, and nobody would say why.
  if ((await kube.get({ apiVersion: "v1", kind: "ServiceAccount", namespace, name }, signal)) === undefined) {
    throw new PgkitError("kube-missing", `there is no ServiceAccount ${namespace}/${name} in ${kube.where}`, {
      hint: `give the instance a schedule for ${kind}, and: pgkit manifests | kubectl apply -f -`,
    });
  }
  return jobTemplate(request, kind, rendered);
}
