import type { InClusterConfig } from "./config.ts";
import { kubernetesOptions as rows } from "./options/kubernetes.ts";
import type { Option } from "./options/option.ts";
import type { Settings } from "./settings.ts";

export function inClusterOf(settings: Settings): InClusterConfig {
  return {
    image: settings.get(rows.image),
    imagePullSecrets: settings.get(rows.imagePullSecrets),
    namespace: settings.get(rows.namespace),
    createNamespace: settings.get(rows.createNamespace),
    uid: settings.get(rows.user),
    secretName: settings.get(rows.secret),
    scratchBytes: settings.get(rows.scratch),
    restore: {
      scratchBytes: settings.get(rows.restoreScratch),
      scratchClass: settings.get(rows.restoreScratchClass),
      memoryBytes: settings.get(rows.restoreMemory),
    },
    streamBytes: settings.get(rows.streamVolume),
    storageClass: settings.get(rows.storageClass),
    repositoryClaim: settings.get(rows.repositoryClaim),
    repositoryBytes: settings.get(rows.repositorySize),
    deadlineMs: settings.get(rows.deadline),
    networkPolicies: settings.get(rows.networkPolicies),
    serviceAccountAnnotations: mapOf(settings, "serviceAccountAnnotations", rows.serviceAccountAnnotations),
    podLabels: mapOf(settings, "podLabels", rows.podLabels),
  };
}

function mapOf(settings: Settings, name: string, row: Option<string>): Record<string, string> {
  const keys = settings.names("kubernetes", name);
  return Object.fromEntries(keys.map((key) => [key, settings.get(row, key) ?? ""]));
}
