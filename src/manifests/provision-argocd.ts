import { binarySize } from "./pod.ts";
import { type ProvisionRequest, provisionSizes, serverSettings } from "./provision.ts";
import type { Manifest } from "./request.ts";

/** Charts by the major that each has: https://github.com/bitnami/charts/tree/main/bitnami/postgresql#upgrading */
const chartOf: Readonly<Record<number, string>> = { 15: "12.x.x", 16: "15.x.x", 17: "16.x.x", 18: "18.x.x" };

/** An ArgoCD Application with the Bitnami chart, of which `name` is the release and the Service. */
export function argocdInstance(request: ProvisionRequest): Manifest[] {
  const { name, namespace, figures } = request;
  return [
    {
      apiVersion: "argoproj.io/v1alpha1",
      kind: "Application",
      metadata: { name, namespace: "argocd" },
      spec: {
        project: "default",
        destination: { server: "https://kubernetes.default.svc", namespace },
        source: {
          ...{ repoURL: "registry-1.docker.io/bitnamicharts", chart: "postgresql" },
          targetRevision: chartOf[figures.major] ?? "*",
          helm: { releaseName: name, valuesObject: valuesOf(request) },
        },
        syncPolicy: { automated: { prune: false, selfHeal: true }, syncOptions: ["CreateNamespace=true"] },
      },
    },
  ];
}

function valuesOf({ name, secret, storageClass, figures }: ProvisionRequest) {
  const sizes = provisionSizes(figures);
  const settings = Object.entries(serverSettings(sizes)).map(([key, value]) => `${key} = '${value}'`);
  return {
    fullnameOverride: name,
    ...imageOf(figures),
    auth: {
      ...{ enablePostgresUser: true, existingSecret: secret.name },
      secretKeys: { adminPasswordKey: secret.key },
    },
    primary: {
      extendedConfiguration: `${settings.join("\n")}\n`,
      persistence: {
        size: binarySize(sizes.volumeBytes),
        ...(storageClass === undefined ? {} : { storageClass }),
      },
      resources: {
        requests: { cpu: `${sizes.cpuMillis}m`, memory: binarySize(sizes.memoryBytes) },
        limits: { memory: binarySize(sizes.memoryBytes) },
      },
    },
  };
}

/** Images of the charts up to 17 were moved there, in August 2025. */
function imageOf({ major }: ProvisionRequest["figures"]): object {
  if (major >= 18) return {};
  return {
    global: { security: { allowInsecureImages: true } },
    image: { registry: "docker.io", repository: "bitnamilegacy/postgresql" },
  };
}
