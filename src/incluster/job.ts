import type { Manifest } from "../kube/kube.ts";
import type { Container, JobSpec, PodSpec, PodTemplate, Workload } from "../kube/workloads.ts";
import type { VolumeRestoreFacts } from "./facts.ts";
import { jobName, restoreLabel } from "./names.ts";
import type { ServerVolume } from "./server-volume.ts";

export interface VolumeJob {
  readonly restore: Pick<VolumeRestoreFacts, "id" | "namespace" | "instance">;
  readonly does: "restore" | "put-back" | "drop" | "beside";
  readonly args: readonly string[];
  /** Of a CronJob of `pgkit manifests`: image, configuration, credentials, what it may reach. */
  readonly template: PodTemplate;
  readonly server: Workload;
  readonly volume: ServerVolume;
  /** `must`: beside a Pod that has the volume. Else it is only sooner there: the node may be what has failed. */
  readonly node: { readonly name: string; readonly must: boolean } | undefined;
  readonly actor: string;
}

const dataVolume = "pgkit-data";

/** By these exit statuses trying again helps nobody: usage, credentials, no way to the target, what must not be overwritten. */
const hopeless = [2, 12, 20, 21];

/**
 * pgkit on the volume of a server: as a CronJob of pgkit runs it, but as the user and where the server's own Pod does. Pure.
 */
export function volumeJob(job: VolumeJob): Manifest {
  const { restore, does, template } = job;
  const labels = { ...template.metadata?.labels, [restoreLabel]: restore.id.toLowerCase() };
  const container = pgkitContainer(template.spec ?? {}).name;
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: jobName(restore, does), namespace: restore.namespace, labels },
    spec: {
      backoffLimit: 2,
      podFailurePolicy: {
        rules: [
          { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
          { action: "FailJob", onExitCodes: { containerName: container, operator: "In", values: hopeless } },
        ],
      },
      template: { metadata: { ...template.metadata, labels }, spec: podSpec(job) },
    },
  };
}

/** A Job of the CronJob's own, with further words. */
export function scheduledJob(
  restore: Pick<VolumeRestoreFacts, "id" | "namespace">,
  does: "base",
  spec: JobSpec,
  words: readonly string[],
): Manifest {
  const { template } = spec;
  const labels = { ...template?.metadata?.labels, [restoreLabel]: restore.id.toLowerCase() };
  const own = pgkitContainer(template?.spec ?? {});
  const containers = (template?.spec?.containers ?? []).map((each) =>
    each.name === own.name ? { ...each, args: [...(each.args ?? []), ...words] } : each,
  );
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: jobName(restore, does), namespace: restore.namespace, labels },
    spec: {
      ...spec,
      template: { metadata: { ...template?.metadata, labels }, spec: { ...template?.spec, containers } },
    },
  };
}

/** That of the CronJob's Pod which runs pgkit. */
export function pgkitContainer({ containers = [] }: PodSpec): Container {
  return containers.find(({ name }) => name === "pgkit") ?? containers[0] ?? { name: "pgkit" };
}

function podSpec(job: VolumeJob): object {
  const { template, server, volume, node } = job;
  const { spec = {} } = template;
  const serverSpec = server.spec?.template?.spec ?? {};
  const { affinity: _, nodeSelector: __, tolerations: ___, ...base } = spec;
  const isOpen = volume.user !== 0 && serverSpec.securityContext?.fsGroup === undefined;
  return {
    ...base,
    restartPolicy: "Never",
    securityContext: podSecurity(job),
    ...(serverSpec["nodeSelector"] === undefined ? {} : { nodeSelector: serverSpec["nodeSelector"] }),
    ...(serverSpec["tolerations"] === undefined ? {} : { tolerations: serverSpec["tolerations"] }),
    ...(node === undefined ? {} : { affinity: { nodeAffinity: nodeAffinity(node) } }),
    containers: [containerOf(job)],
    volumes: [
      // Without a group of the Pod's, files of a Secret would be root's alone.
      ...(spec.volumes ?? []).map((each) => (isOpen && each.secret !== undefined ? openSecret(each) : each)),
      { name: dataVolume, persistentVolumeClaim: { claimName: volume.claim } },
    ],
  };
}

function openSecret(volume: NonNullable<PodSpec["volumes"]>[number]) {
  return { ...volume, secret: { ...volume.secret, defaultMode: 0o444 } };
}

/** As the server's Pod has it; with the group of pgkit's own volumes, such as a repository in a folder. */
function podSecurity({ template, server, volume, does }: VolumeJob) {
  const own = server.spec?.template?.spec?.securityContext ?? {};
  const groups = [(own as { supplementalGroups?: number[] }).supplementalGroups ?? []].flat();
  const group = template.spec?.securityContext?.fsGroup;
  const supplementalGroups = [...new Set([...groups, ...(group === undefined ? [] : [group])])];
  return {
    seccompProfile: { type: "RuntimeDefault" },
    // A new volume is root's.
    ...(does === "beside" && volume.user !== 0 ? { fsGroup: volume.group ?? volume.user } : {}),
    ...own,
    runAsNonRoot: volume.user !== 0,
    runAsUser: volume.user,
    ...(volume.group === undefined ? {} : { runAsGroup: volume.group }),
    ...(supplementalGroups.length === 0 ? {} : { supplementalGroups }),
  };
}

/** What root needs to act as the data's owner; nobody else gets any. */
const ofRoot = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"];

function containerOf({ template, server, volume, args, actor }: VolumeJob): object {
  const own = pgkitContainer(template.spec ?? {});
  const serves = server.spec?.template?.spec?.containers?.find(({ name }) => name === volume.container);
  const { mountPath, subPath } = volume;
  const { livenessProbe: _, readinessProbe: __, startupProbe: ___, ...rest } = own;
  return {
    ...rest,
    args,
    env: [...(own.env ?? []).filter(({ name }) => name !== "PGKIT_ACTOR"), { name: "PGKIT_ACTOR", value: actor }],
    securityContext: {
      ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
      capabilities: { drop: ["ALL"], ...(volume.user === 0 ? { add: ofRoot } : {}) },
    },
    // Recovery has the server's own memory settings, and its room.
    ...(serves?.["resources"] === undefined ? {} : { resources: serves["resources"] }),
    volumeMounts: [
      ...(own.volumeMounts ?? []),
      { name: dataVolume, mountPath, ...(subPath === undefined ? {} : { subPath }) },
    ],
  };
}

function nodeAffinity({ name, must }: { name: string; must: boolean }): object {
  const term = { matchFields: [{ key: "metadata.name", operator: "In", values: [name] }] };
  if (must) return { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [term] } };
  return { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, preference: term }] };
}
