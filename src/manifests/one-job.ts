import { leaseWait } from "./jobs.ts";
import { binarySize, scratchFolder } from "./pod.ts";

/** A CronJob's `jobTemplate`, as the cluster has it or as it is rendered. */
export interface JobTemplate {
  readonly metadata?: { readonly labels?: Texts; readonly annotations?: Texts } | undefined;
  readonly spec?: {
    readonly template?: { readonly metadata?: object; readonly spec?: PodSpec };
    readonly podFailurePolicy?: unknown;
    readonly [field: string]: unknown;
  };
}

interface PodSpec {
  readonly containers?: readonly Container[];
  readonly volumes?: readonly { readonly name: string; readonly [source: string]: unknown }[];
  readonly [field: string]: unknown;
}

interface Container {
  readonly name: string;
  readonly env?: readonly { readonly name: string; readonly [field: string]: unknown }[];
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
  readonly resources?: { readonly limits?: object; readonly requests?: object };
  readonly [field: string]: unknown;
}

type Texts = Readonly<Record<string, string>>;

export interface JobRequest {
  readonly name: string;
  readonly namespace: string;
  readonly args: readonly string[];
  /** Who started it, for those who find the Job; the audit record in the repository says the same. */
  readonly startedBy: string;
  /** With which it goes. It does not manage it: its limits of history are not for Jobs of others. */
  readonly cronJob: { readonly name: string; readonly uid: string } | undefined;
  /** What it may take where it is more than the template gives. */
  readonly room: JobRoom | undefined;
}

export interface JobRoom {
  readonly scratchBytes: number;
  readonly scratchClass: string | undefined;
  readonly memoryBytes: number;
  /** How long it may take. */
  readonly deadlineMs: number;
}

export const startedByAnnotation = "pgkit.dev/started-by";
const keptSeconds = 86_400;

/**
 * One run of pgkit by what a CronJob's runs are made of, with other arguments. It is never repeated by itself: whoever started it is
 * told why it ended, and decides. Pure.
 */
export function oneJob({ metadata, spec = {} }: JobTemplate, request: JobRequest) {
  const { name, namespace, startedBy, cronJob, room } = request;
  const { template, podFailurePolicy: _, ...rest } = spec;
  const owner = cronJob === undefined ? [] : [{ apiVersion: "batch/v1", kind: "CronJob", ...cronJob }];
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      ...{ name, namespace },
      ...(metadata?.labels === undefined ? {} : { labels: metadata.labels }),
      annotations: { ...metadata?.annotations, [startedByAnnotation]: startedBy },
      ...(owner.length === 0 ? {} : { ownerReferences: owner }),
    },
    spec: {
      ...rest,
      ...(room === undefined ? {} : { activeDeadlineSeconds: Math.round(room.deadlineMs / 1000) }),
      ...{ backoffLimit: 0, ttlSecondsAfterFinished: keptSeconds },
      template: { ...template, spec: podSpec(template?.spec ?? {}, request) },
    },
  };
}

function podSpec(spec: PodSpec, { args, startedBy, name, room }: JobRequest): PodSpec {
  const containers = spec.containers ?? [];
  const main = containers.find((each) => each.name === "pgkit") ?? containers[0];
  const changed = containers.map((container) => {
    if (container !== main) return container;
    // Who has started it by hand is told at once that another is at work.
    const others = (container.env ?? []).filter((each) => each.name !== "PGKIT_ACTOR" && each.name !== leaseWait);
    const env = [{ name: "PGKIT_ACTOR", value: `${startedBy}, job/${name}` }, ...others];
    return { ...container, args, env, ...(room === undefined ? {} : { resources: withMemory(container, room) }) };
  });
  return room === undefined ? { ...spec, containers: changed } : withScratch({ ...spec, containers: changed }, room);
}

/** What it asks for is what it may take: a node that is short of memory ends those first who took more than they asked for. */
function withMemory({ resources = {} }: Container, { memoryBytes }: JobRoom) {
  const memory = binarySize(memoryBytes);
  return {
    ...resources,
    requests: { ...resources.requests, memory },
    limits: { ...resources.limits, memory },
  };
}

/** A larger volume where the template has its scratch. */
function withScratch(spec: PodSpec, { scratchBytes, scratchClass }: JobRoom): PodSpec {
  const mounts = (spec.containers ?? []).flatMap(({ volumeMounts = [] }) => volumeMounts);
  const name = mounts.find(({ mountPath }) => mountPath === scratchFolder)?.name;
  if (name === undefined) return spec;
  const size = binarySize(scratchBytes);
  const claim = { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: size } } };
  const source =
    scratchClass === undefined
      ? { emptyDir: { sizeLimit: size } }
      : { ephemeral: { volumeClaimTemplate: { spec: { ...claim, storageClassName: scratchClass } } } };
  const others = (spec.volumes ?? []).filter((volume) => volume.name !== name);
  return { ...spec, volumes: [...others, { name, ...source }] };
}
