import { workloadLabels, workloadName } from "./names.ts";
import { podTemplate } from "./pod.ts";
import {
  type Manifest,
  type ManifestInstance,
  type ManifestsRequest,
  type ScheduledKind,
  scheduledKinds,
} from "./request.ts";

const argsOf: { readonly [Kind in ScheduledKind]: readonly string[] } = {
  logical: ["backup", "logical"],
  base: ["backup", "base"],
  prune: ["prune", "--yes"],
  verify: ["verify"],
  check: ["check"],
};

/** Exit statuses by which trying again helps nobody: the configuration, the credentials, or what must not be overwritten. */
const hopeless = [2, 12, 21];

/**
 * A run whose time comes while another of the instance is at work waits for it, and so does one in the place of a Pod that was killed, whose
 * lease outlives it by two minutes: the attempts of a Job are spent in half a minute.
 */
export const leaseWait = "PGKIT_LEASE_WAIT";
const writes: readonly ScheduledKind[] = ["logical", "base", "prune"];

/** A CronJob for each scheduled command of each instance. */
export function cronJobs(request: ManifestsRequest): Manifest[] {
  return request.instances.flatMap((instance) =>
    scheduledKinds.flatMap((kind) => {
      const cron = instance.schedule[kind];
      return cron === undefined ? [] : [cronJob(request, kind, instance, cron)];
    }),
  );
}

function cronJob(
  request: ManifestsRequest,
  kind: ScheduledKind,
  instance: ManifestInstance,
  schedule: string,
): Manifest {
  const name = workloadName(kind, instance.name);
  const labels = workloadLabels(kind, instance);
  return {
    apiVersion: "batch/v1",
    kind: "CronJob",
    metadata: { name, namespace: request.namespace, labels },
    spec: {
      ...{ schedule, timeZone: instance.timeZone, concurrencyPolicy: "Forbid" },
      // Later than that the run is overdue, and the next one is near.
      startingDeadlineSeconds: Math.max(60, Math.round(instance.graceMs / 1000)),
      ...{ successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 3 },
      jobTemplate: jobTemplate(request, kind, instance),
    },
  };
}

/** What each run of a CronJob is made of; also where an instance has no schedule for it. */
export function jobTemplate(request: ManifestsRequest, kind: ScheduledKind, instance: ManifestInstance) {
  const args = [...argsOf[kind], "--instance", instance.name];
  const actor = `cronjob/${workloadName(kind, instance.name)}`;
  const deadline = deadlineSeconds(request, kind);
  const env = writes.includes(kind) ? [{ name: leaseWait, value: `${Math.round(deadline / 2)}s` }] : [];
  const parts = { kind, instance, args, actor, env, restartPolicy: "Never", graceSeconds: 60 } as const;
  return {
    metadata: { labels: workloadLabels(kind, instance) },
    spec: {
      // What a check finds is there a moment later too.
      backoffLimit: kind === "check" ? 0 : 2,
      activeDeadlineSeconds: deadline,
      podFailurePolicy: {
        rules: [
          // A node that is drained: no attempt is spent.
          { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
          { action: "FailJob", onExitCodes: { containerName: "pgkit", operator: "In", values: hopeless } },
        ],
      },
      template: podTemplate(request, parts),
    },
  };
}

/** A prune or check that takes an hour hangs. */
function deadlineSeconds({ deadlineMs }: ManifestsRequest, kind: ScheduledKind): number {
  const seconds = Math.round(deadlineMs / 1000);
  return kind === "prune" || kind === "check" ? Math.min(3600, seconds) : seconds;
}

/** A node is not drained under a backup that has hours behind it; it is as soon as that ends. */
export function backupBudgets(request: ManifestsRequest): Manifest[] {
  return request.instances.flatMap((instance) =>
    (["logical", "base"] as const)
      .filter((kind) => instance.schedule[kind] !== undefined)
      .map((kind) => {
        const labels = workloadLabels(kind, instance);
        const { "app.kubernetes.io/managed-by": _, ...matchLabels } = labels;
        const metadata = { name: workloadName(kind, instance.name), namespace: request.namespace, labels };
        const spec = { minAvailable: 1, selector: { matchLabels } };
        return { apiVersion: "policy/v1", kind: "PodDisruptionBudget", metadata, spec };
      }),
  );
}
