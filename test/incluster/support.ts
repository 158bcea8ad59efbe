import { eventReader } from "../../src/cli/events.ts";
import type { VolumeRestoreFacts } from "../../src/incluster/facts.ts";
import type { RestoreWorld } from "../../src/incluster/restore.ts";
import type { Kube } from "../../src/kube/kube.ts";
import { openKube } from "../../src/kube/open.ts";
import { systemClock } from "../../src/lib/time.ts";
import { commitBackup } from "../../src/repo/backups.ts";
import type { Manifest } from "../../src/repo/manifest.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { manifestOf, reports, repositoryIn } from "../repo/support.ts";
import type { Program } from "../support/kube-api/controllers.ts";
import type { Obj } from "../support/kube-api/objects.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";

/** What is on the volume, as pgkit on it changes that. */
export interface Volume {
  data: "old" | "half" | "new" | "gone";
  aside?: "old" | undefined;
  isWhole: boolean;
}

export const reached = { lsn: "0/5000000", timeline: 2 };
const systemId = "7000000000000000001";
const namespace = "databases";

export interface Cluster {
  api: KubeApi;
  kube: Kube;
  volume: Volume;
  repository: Repository;
  facts: VolumeRestoreFacts;
  said: () => string;
  world(more?: Partial<RestoreWorld>): RestoreWorld;
  replicas(): unknown;
  pod(): Obj | undefined;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A StatefulSet with its volume, CronJobs as pgkit renders them, and Jobs that do to the volume what pgkit would. */
export async function startCluster(annotations: Record<string, string> = {}): Promise<Cluster> {
  const api = await startKubeApi();
  const repository = await repositoryIn(memoryStore());
  const volume: Volume = { data: "old", isWhole: true };
  install(api, annotations);
  api.behaviour.program = pgkitOn(volume, repository);
  const { report, said } = reports();
  const kube = await openKube({ kubeconfig: await api.kubeconfig(), env: {} }, { clock: systemClock, report });
  const world = (more: Partial<RestoreWorld> = {}): RestoreWorld => ({
    ...{ kube, repository, actor: "me", ask: async () => undefined, newReader: () => eventReader(report) },
    ...{ patience: { podMs: 20_000, startMs: 20_000 }, clock: systemClock, report },
    ...{ signal: new AbortController().signal, runner: { who: "me", host: "here", pid: 1 } },
    ...more,
  });
  return {
    ...{ api, kube, volume, repository, said, world, facts: factsFor("1") },
    replicas: () =>
      (api.read("StatefulSet", namespace, "pg") as { spec?: { replicas?: number } } | undefined)?.spec?.replicas,
    pod: () => api.read("Pod", namespace, "pg-0"),
    [Symbol.asyncDispose]: () => api[Symbol.asyncDispose](),
  };
}

export function factsFor(unique: string, more: Partial<VolumeRestoreFacts> = {}): VolumeRestoreFacts {
  return {
    ...{ id: `20261129T18000${unique}Z-3f9a`, instance: "shared", namespace, statefulSet: "pg", asked: "--latest" },
    ...{ target: "the end", words: ["--latest"], backup: "shared-1", systemId, databases: ["litellm"] },
    ...{ keepOld: "rename", overrideGitops: false },
    volume: {
      ...{ container: "postgresql", image: "bitnami/postgresql:15", claim: "data-pg-0", user: 1001, isRoot: false },
      ...{ mountPath: "/bitnami/postgresql", dataDir: "/bitnami/postgresql/data" },
    },
    ...more,
  };
}

function install(api: KubeApi, annotations: Record<string, string>): void {
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "argocd" } });
  api.put({
    ...{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "data-pg-0", namespace } },
    spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "20Gi" } } },
  });
  const mount = { name: "data", mountPath: "/bitnami/postgresql" };
  api.put({
    ...{ apiVersion: "apps/v1", kind: "StatefulSet", metadata: { name: "pg", namespace, annotations } },
    spec: {
      ...{ replicas: 1, selector: { matchLabels: { app: "pg" } } },
      template: {
        metadata: { labels: { app: "pg" } },
        spec: { containers: [{ name: "postgresql", image: "bitnami/postgresql:15", volumeMounts: [mount] }] },
      },
      volumeClaimTemplates: [{ metadata: { name: "data" } }],
    },
  });
  for (const kind of ["base", "verify"]) {
    const args = kind === "base" ? ["backup", "base", "--instance", "shared"] : ["verify"];
    const spec = { restartPolicy: "Never", containers: [{ name: "pgkit", image: "pgkit:1", args }] };
    api.put({
      ...{ apiVersion: "batch/v1", kind: "CronJob", metadata: { name: `pgkit-${kind}-shared`, namespace } },
      spec: { jobTemplate: { spec: { backoffLimit: 2, template: { spec } } } },
    });
  }
}

/** What `pgkit restore --data-dir` and `pgkit backup base` do, on a volume that is a word. */
export function pgkitOn(volume: Volume, repository: Repository): Program {
  return async ({ args, log, signal }) => {
    if (signal.aborted) return 137;
    const result = (json: object) => {
      log(JSON.stringify({ type: "result", part: 1, of: 1, piece: JSON.stringify({ json, text: "" }) }));
      return 0;
    };
    if (args[0] === "backup") {
      const id = "shared-new";
      await commitBackup(repository, baseOf(id, repository.id)).catch(() => undefined);
      return result({ backups: [{ id }] });
    }
    if (args.includes("--put-back")) {
      if (volume.aside !== undefined) Object.assign(volume, { data: volume.aside, aside: undefined, isWhole: true });
      return result({ put: true, kept: "/bitnami/postgresql/before.restored" });
    }
    if (args.includes("--drop-aside")) {
      volume.aside = undefined;
      return result({ removed: true });
    }
    if (volume.aside === undefined) Object.assign(volume, { aside: volume.data, data: "half", isWhole: false });
    Object.assign(volume, { data: "new", isWhole: true });
    return result({ reached, keptAt: "/bitnami/postgresql/before" });
  };
}

function baseOf(id: string, repository: string): Manifest {
  return {
    ...manifestOf({ id, kind: "base", systemId }, repository),
    base: {
      ...{ timeline: 2, startLsn: "0/6000000", stopLsn: "0/6000100", stoppedAt: "2026-11-29T18:00:00Z" },
      ...{ segmentBytes: 16_777_216, walIncluded: true, engine: "protocol" as const, fromStandby: false, label: "x" },
      ...{ checkpoint: "fast" as const, dataChecksums: false, sizeBytes: 1, tablespaces: [], databases: [] },
    },
  };
}
