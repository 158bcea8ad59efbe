import { access } from "./access.ts";
import { backupBudgets, cronJobs } from "./jobs.ts";
import { ownLabels } from "./names.ts";
import { networkPolicies } from "./network.ts";
import { binarySize, repositoryClaimName } from "./pod.ts";
import type { Manifest, ManifestsRequest } from "./request.ts";
import { streamers } from "./streamer.ts";

/** Everything that runs pgkit for a configuration, in the order in which it can be applied. The same request gives the same. */
export function manifestsFor(request: ManifestsRequest): Manifest[] {
  return [
    ...(request.createNamespace ? [namespace(request)] : []),
    configMap(request),
    ...repositoryClaims(request),
    ...access(request),
    ...networkPolicies(request),
    ...backupBudgets(request),
    ...cronJobs(request),
    ...streamers(request),
  ];
}

/** The Secret that the rest refers to, with what it must hold: an example, as its content is nobody's but the user's. */
export function exampleSecret(request: ManifestsRequest): Manifest {
  const { namespace, secretName, instances, storeCredentials, identityFiles } = request;
  const files = [
    ...instances.flatMap(({ password }) => (password?.type === "file" ? [password.path] : [])),
    ...identityFiles,
  ].map((path) => path.slice(path.lastIndexOf("/") + 1));
  const variables = instances.flatMap(({ password }) => (password?.type === "env" ? [password.variable] : []));
  const keys = [...new Set([...variables, ...(storeCredentials[0] ?? []), ...files])];
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: secretName, namespace, labels: ownLabels },
    type: "Opaque",
    stringData: Object.fromEntries(keys.map((key) => [key, "change-me"])),
  };
}

/** With pod security enforced: nothing else comes into a namespace of pgkit's own. */
function namespace({ namespace: name }: ManifestsRequest): Manifest {
  const labels = { ...ownLabels, "pod-security.kubernetes.io/enforce": "restricted" };
  return { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
}

function configMap({ namespace, configFiles }: ManifestsRequest): Manifest {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "pgkit", namespace, labels: ownLabels },
    data: configFiles,
  };
}

function repositoryClaims(request: ManifestsRequest): Manifest[] {
  const { namespace, folders, repositoryClaim, repositoryBytes, storageClass } = request;
  if (repositoryClaim !== undefined) return [];
  return folders.map((_, index) => ({
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: {
      name: index === 0 ? repositoryClaimName : `${repositoryClaimName}-${index + 1}`,
      ...{ namespace, labels: ownLabels },
    },
    spec: {
      // Jobs run on any node, some at once.
      accessModes: ["ReadWriteMany"],
      ...(storageClass === undefined ? {} : { storageClassName: storageClass }),
      resources: { requests: { storage: binarySize(repositoryBytes) } },
    },
  }));
}
