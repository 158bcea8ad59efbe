import { createHash } from "node:crypto";
import { workloadLabels, workloadName } from "./names.ts";
import { binarySize, podTemplate } from "./pod.ts";
import type { Manifest, ManifestInstance, ManifestsRequest } from "./request.ts";

const dataFolder = "/var/lib/pgkit";

/** What follows the WAL of each instance that is archived by `stream`, with a budget that lets nodes be drained. */
export function streamers(request: ManifestsRequest): Manifest[] {
  return request.instances
    .filter(({ isStreamed }) => isStreamed)
    .flatMap((instance) => [statefulSet(request, instance), budget(request, instance)]);
}

function statefulSet(request: ManifestsRequest, instance: ManifestInstance): Manifest {
  const { namespace, storageClass, streamBytes } = request;
  const name = workloadName("stream", instance.name);
  const labels = workloadLabels("stream", instance);
  return {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: { name, namespace, labels },
    spec: {
      // The server lets in one, and the lease one, also where two would be started.
      ...{ replicas: 1, serviceName: name, podManagementPolicy: "OrderedReady" },
      selector: { matchLabels: selectorOf(labels) },
      // The slot keeps on the server what is not stored: nothing in the volume is needed after the streamer.
      persistentVolumeClaimRetentionPolicy: { whenDeleted: "Delete", whenScaled: "Retain" },
      template: podTemplate(request, podParts(request, instance, name)),
      volumeClaimTemplates: [
        {
          metadata: { name: "stream", labels: selectorOf(labels) },
          spec: {
            accessModes: ["ReadWriteOnce"],
            ...(storageClass === undefined ? {} : { storageClassName: storageClass }),
            resources: { requests: { storage: binarySize(streamBytes) } },
          },
        },
      ],
    },
  };
}

function podParts({ configFiles }: ManifestsRequest, instance: ManifestInstance, name: string) {
  const { streamFolder } = instance;
  return {
    ...({ kind: "stream", instance } as const),
    args: ["wal", "stream", "--instance", instance.name],
    ...{ actor: `statefulset/${name}`, graceSeconds: 120 },
    // A new configuration starts it anew.
    annotations: { "pgkit/config": createHash("sha256").update(JSON.stringify(configFiles)).digest("hex") },
    env: streamFolder === undefined ? [{ name: "XDG_DATA_HOME", value: dataFolder }] : [],
    volumes: [{ name: "stream", mountPath: streamFolder ?? dataFolder, source: undefined }],
    container: probes(instance),
  };
}

/** Liveness asks for the streamer alone: a store or a server that is down must not have it killed. */
function probes({ name }: ManifestInstance) {
  const exec = (...args: string[]) => ({ exec: { command: ["pgkit", "healthz", "--instance", name, "-q", ...args] } });
  return {
    startupProbe: { ...exec("--live"), periodSeconds: 5, timeoutSeconds: 10, failureThreshold: 24 },
    livenessProbe: { ...exec("--live"), periodSeconds: 30, timeoutSeconds: 10, failureThreshold: 4 },
    readinessProbe: { ...exec(), periodSeconds: 30, timeoutSeconds: 10, failureThreshold: 2 },
  };
}

function budget({ namespace }: ManifestsRequest, instance: ManifestInstance): Manifest {
  const labels = workloadLabels("stream", instance);
  return {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name: workloadName("stream", instance.name), namespace, labels },
    // Of one replica: a node can be drained, as the slot keeps what comes meanwhile.
    spec: { maxUnavailable: 1, selector: { matchLabels: selectorOf(labels) } },
  };
}

function selectorOf(labels: ReturnType<typeof workloadLabels>) {
  const { "app.kubernetes.io/managed-by": _, ...rest } = labels;
  return rest;
}
