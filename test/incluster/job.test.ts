import { describe, expect, test } from "vitest";
import { type VolumeJob, volumeJob } from "../../src/incluster/job.ts";
import type { PodSpec } from "../../src/kube/workloads.ts";
import type { Manifest } from "../../src/manifests/request.ts";
import { schemaProblems } from "../manifests/schema.ts";

const server = (podSpec: PodSpec) => ({
  ...{ apiVersion: "apps/v1", kind: "StatefulSet", metadata: { name: "pg", namespace: "databases" } },
  spec: { template: { spec: podSpec } },
});

const job = (more: Partial<VolumeJob> = {}): VolumeJob => ({
  restore: { id: "20261129T180000Z-3f9a", namespace: "databases", instance: "shared" },
  does: "restore",
  args: ["restore", "--instance", "shared"],
  template: {
    metadata: { labels: { "app.kubernetes.io/component": "verify" } },
    spec: {
      ...{
        serviceAccountName: "pgkit-verify",
        restartPolicy: "Never",
        securityContext: { runAsUser: 65_532, fsGroup: 65_532 },
      },
      containers: [
        {
          ...{ name: "pgkit", image: "registry/pgkit:1", args: ["verify"], resources: { limits: { memory: "256Mi" } } },
          env: [
            { name: "PGKIT_ACTOR", value: "cronjob" },
            { name: "AWS_ACCESS_KEY_ID", value: "k" },
          ],
          volumeMounts: [{ name: "secret", mountPath: "/run/secrets/pgkit" }],
        },
      ],
      volumes: [{ name: "secret", secret: { secretName: "pgkit", defaultMode: 0o440 } as { secretName: string } }],
    },
  },
  server: server({
    ...{ nodeSelector: { disk: "ssd" }, tolerations: [{ key: "db", operator: "Exists" }] },
    securityContext: { fsGroup: 1001 },
    containers: [{ name: "postgresql", resources: { limits: { memory: "4Gi" } } }],
  }),
  volume: {
    ...{ container: "postgresql", image: "bitnami/postgresql:15", claim: "data-pg-0", user: 1001, group: 1001 },
    ...{ isRoot: false, mountPath: "/bitnami/postgresql", dataDir: "/bitnami/postgresql/data" },
  },
  node: { name: "node-7", must: false },
  actor: "me on here",
  ...more,
});

/** The parts of the Pod that matter, as the API has them. */
function podOf(manifest: object) {
  const { spec } = (manifest as { spec: { template: { spec: Record<string, unknown> } } }).spec.template;
  const [container] = spec["containers"] as Record<string, unknown>[];
  return { ...spec, container };
}

describe("a Job on a server's volume", () => {
  test("is pgkit's own Pod, as the user, with the room and where the server is", async () => {
    const manifest = volumeJob(job());
    expect(await schemaProblems(manifest as Manifest)).toEqual([]);
    expect(podOf(manifest)).toMatchObject({
      serviceAccountName: "pgkit-verify",
      nodeSelector: { disk: "ssd" },
      tolerations: [{ key: "db" }],
      securityContext: {
        runAsUser: 1001,
        runAsGroup: 1001,
        fsGroup: 1001,
        runAsNonRoot: true,
        supplementalGroups: [65_532],
      },
      affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100 }] } },
      volumes: [{ secret: { defaultMode: 0o440 } }, { persistentVolumeClaim: { claimName: "data-pg-0" } }],
      container: {
        args: ["restore", "--instance", "shared"],
        env: [{ name: "AWS_ACCESS_KEY_ID" }, { name: "PGKIT_ACTOR", value: "me on here" }],
        resources: { limits: { memory: "4Gi" } },
        securityContext: { readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
        volumeMounts: [{ name: "secret" }, { mountPath: "/bitnami/postgresql" }],
      },
    });
  });

  test("is root only where the server's image begins as root, with what it takes to act as the owner", () => {
    const { volume } = job();
    const pod = podOf(volumeJob(job({ volume: { ...volume, user: 0 } })));
    expect(pod).toMatchObject({
      securityContext: { runAsNonRoot: false, runAsUser: 0 },
      container: {
        securityContext: { capabilities: { drop: ["ALL"], add: expect.arrayContaining(["CHOWN", "SETUID"]) } },
      },
    });
  });

  test("reads its Secrets also where the server's Pod has no group of its own", () => {
    const pod = podOf(volumeJob(job({ server: server({ containers: [] }) })));
    expect(pod).toMatchObject({ volumes: [{ secret: { defaultMode: 0o444 } }, {}] });
  });

  test("must be on the node of a Pod that has the volume", () => {
    const pod = podOf(volumeJob(job({ does: "drop", node: { name: "node-7", must: true } })));
    expect(pod).toMatchObject({
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchFields: [{ key: "metadata.name", values: ["node-7"] }] }],
          },
        },
      },
    });
  });
});
