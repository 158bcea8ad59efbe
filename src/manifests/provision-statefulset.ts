import { binarySize } from "./pod.ts";
import {
  type ProvisionRequest,
  type ProvisionSizes,
  provisionLabels,
  provisionSizes,
  serverSettings,
} from "./provision.ts";
import type { Manifest } from "./request.ts";

/** Of the `postgres` image: its user and group. */
const uid = 999;

/** Service and StatefulSet of one server of the official image, as pod security "restricted" lets it in. */
export function statefulSetInstance(request: ProvisionRequest): Manifest[] {
  const { name, namespace, storageClass } = request;
  const sizes = provisionSizes(request.figures);
  const labels = provisionLabels(request);
  const metadata = { name, namespace, labels };
  return [
    {
      ...{ apiVersion: "v1", kind: "Service", metadata },
      spec: { selector: labels, ports: [{ name: "postgresql", port: 5432, targetPort: "postgresql" }] },
    },
    {
      ...{ apiVersion: "apps/v1", kind: "StatefulSet", metadata },
      spec: {
        ...{ replicas: 1, serviceName: name, selector: { matchLabels: labels } },
        template: { metadata: { labels }, spec: podOf(request, sizes) },
        volumeClaimTemplates: [
          {
            metadata: { name: "data" },
            spec: {
              accessModes: ["ReadWriteOnce"],
              ...(storageClass === undefined ? {} : { storageClassName: storageClass }),
              resources: { requests: { storage: binarySize(sizes.volumeBytes) } },
            },
          },
        ],
      },
    },
  ];
}

function podOf(request: ProvisionRequest, sizes: ProvisionSizes) {
  return {
    automountServiceAccountToken: false,
    // A smart shutdown would wait for the sessions; the image asks for a fast one, which writes a checkpoint.
    terminationGracePeriodSeconds: 120,
    securityContext: {
      ...{ runAsNonRoot: true, runAsUser: uid, runAsGroup: uid, fsGroup: uid },
      ...{ fsGroupChangePolicy: "OnRootMismatch", seccompProfile: { type: "RuntimeDefault" } },
    },
    containers: [containerOf(request, sizes)],
    volumes: [
      { name: "run", emptyDir: {} },
      { name: "tmp", emptyDir: {} },
      // Parallel queries share memory there, and a container's own has 64 MiB.
      { name: "shm", emptyDir: { medium: "Memory", sizeLimit: "256Mi" } },
    ],
  };
}

function containerOf({ secret, figures }: ProvisionRequest, sizes: ProvisionSizes) {
  const isReady = { exec: { command: ["pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres"] } };
  return {
    name: "postgresql",
    image: imageOf(figures),
    args: Object.entries(serverSettings(sizes)).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    env: [
      { name: "POSTGRES_PASSWORD", valueFrom: { secretKeyRef: secret } },
      // Below the mount, as a file system's own lost+found is no part of a data directory.
      { name: "PGDATA", value: "/data/pgdata" },
      { name: "POSTGRES_INITDB_ARGS", value: "--data-checksums --encoding=UTF8 --auth-host=scram-sha-256" },
    ],
    ports: [{ name: "postgresql", containerPort: 5432 }],
    securityContext: {
      ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
      capabilities: { drop: ["ALL"] },
    },
    // initdb and crash recovery take what they take: only a server that has started once is killed where it hangs.
    startupProbe: { ...isReady, periodSeconds: 5, failureThreshold: 720 },
    readinessProbe: { ...isReady, periodSeconds: 5 },
    livenessProbe: { ...isReady, periodSeconds: 20, failureThreshold: 6, timeoutSeconds: 5 },
    resources: {
      requests: { cpu: `${sizes.cpuMillis}m`, memory: binarySize(sizes.memoryBytes) },
      limits: { memory: binarySize(sizes.memoryBytes) },
    },
    volumeMounts: [
      { name: "data", mountPath: "/data" },
      { name: "run", mountPath: "/var/run/postgresql" },
      { name: "tmp", mountPath: "/tmp" },
      { name: "shm", mountPath: "/dev/shm" },
    ],
  };
}

/** Of the source's major: logical replication goes to the same or a newer one, and only the same has the way back unchanged. */
function imageOf({ major, extensions }: ProvisionRequest["figures"]): string {
  return extensions.includes("vector")
    ? `docker.io/pgvector/pgvector:pg${major}`
    : `docker.io/library/postgres:${major}`;
}
