import { chmod, chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Manifest } from "../../src/kube/kube.ts";
import { openKube } from "../../src/kube/open.ts";
import type { Workload } from "../../src/kube/workloads.ts";
import { systemClock } from "../../src/lib/time.ts";
import { startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { startKubelet } from "../support/kube-api/kubelet.ts";
import { installPgkitKinds } from "../support/kube-api/objects.ts";
import { startKubeApi } from "../support/kube-api/server.ts";
import { kubernetesStory, type StoryWorld } from "./kubernetes-story.ts";

const deps = { clock: systemClock, report: () => undefined };

kubernetesStory("of the tests", async (): Promise<StoryWorld> => {
  const [api, cluster] = await Promise.all([startKubeApi(), startCluster()]);
  const folder = await mkdtemp(join(tmpdir(), "pgkit-in-cluster-"));
  const folders = { repository: join(folder, "repository"), stream: join(folder, "stream") };
  const tmp = join(folder, "tmp");
  // The Pods run as whoever servers run as: root may not, and a scratch server needs a name.
  const { runAs } = cluster;
  await chmod(folder, 0o755);
  for (const each of [folders.repository, folders.stream, tmp]) {
    await mkdir(each);
    if (runAs !== undefined) await chown(each, runAs.uid, runAs.gid);
  }
  const namespace = "databases";
  installPgkitKinds(api);
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  await startKubelet(api, {
    env: (mounts) => ({
      TMPDIR: mounts.get("/scratch") ?? tmp,
      PGKIT_CONFIG: join(mounts.get("/etc/pgkit") ?? "", "pgkit.yaml"),
    }),
  });
  const kubeconfig = await api.kubeconfig();
  return {
    kube: await openKube({ kubeconfig, env: {} }, deps),
    ...{ kubeconfig, namespace, folders, image: "pgkit", patienceMs: 60_000 },
    server: { host: cluster.host, port: cluster.port, password: cluster.password },
    settings: runAs === undefined ? [] : [`user: ${runAs.uid}`],
    async close() {
      await api[Symbol.asyncDispose]();
      await cluster[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
});

// A cluster of whoever runs this: docs/kubernetes-testing.md.
const kubeconfig = process.env["PGKIT_TEST_KUBECONFIG"];
const image = process.env["PGKIT_TEST_IMAGE"];
if (kubeconfig !== undefined && image !== undefined) {
  kubernetesStory(`by ${kubeconfig}`, () => realCluster(kubeconfig, image));
}

async function realCluster(path: string, image: string): Promise<StoryWorld> {
  const { signal } = new AbortController();
  const kube = await openKube({ kubeconfig: path, env: {} }, deps);
  const namespace = `pgkit-story-${systemClock.random().toString(36).slice(2, 8)}`;
  const password = systemClock.random().toString(36).slice(2);
  await kube.create({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } }, signal);
  for (const manifest of serverManifests(namespace, password)) await kube.create(manifest, signal);
  await eventually(async () => {
    const ref = { apiVersion: "apps/v1", kind: "StatefulSet", namespace, name: "postgres" };
    if ((await kube.get<Workload>(ref, signal))?.status?.readyReplicas !== 1) throw new Error("no PostgreSQL is ready");
  }, 600_000);
  return {
    kube,
    ...{ kubeconfig: path, namespace, image, patienceMs: 600_000 },
    server: { host: `postgres.${namespace}`, port: 5432, password },
    folders: { repository: "/repository", stream: "/stream" },
    // The claim is rendered, and a cluster of one node lets several of its Pods write to it.
    settings: ["repositoryClaim: repository"],
    async close() {
      await kube.delete({ apiVersion: "v1", kind: "Namespace", name: namespace }, {}, signal);
    },
  };
}

/** PostgreSQL's own image, which lets in for replication only who is told to. */
function serverManifests(namespace: string, password: string): Manifest[] {
  const labels = { app: "postgres" };
  const metadata = (name: string) => ({ name, namespace });
  const hba = "echo 'host replication all all scram-sha-256' >> \"$PGDATA/pg_hba.conf\"\n";
  const mounts = [{ name: "init", mountPath: "/docker-entrypoint-initdb.d" }];
  const container = {
    name: "postgres",
    image: process.env["PGKIT_TEST_POSTGRES_IMAGE"] ?? "postgres:17",
    env: [{ name: "POSTGRES_PASSWORD", value: password }],
    readinessProbe: { exec: { command: ["pg_isready", "-h", "127.0.0.1", "-U", "postgres"] }, periodSeconds: 1 },
    volumeMounts: mounts,
  };
  const volumes = [{ name: "init", configMap: { name: "postgres-init" } }];
  const template = { metadata: { labels }, spec: { containers: [container], volumes } };
  const claim = { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } };
  const port = { port: 5432, targetPort: 5432 };
  return [
    { apiVersion: "v1", kind: "ConfigMap", metadata: metadata("postgres-init"), data: { "hba.sh": hba } },
    { apiVersion: "v1", kind: "Service", metadata: metadata("postgres"), spec: { selector: labels, ports: [port] } },
    { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: metadata("repository"), spec: claim },
    {
      ...{ apiVersion: "apps/v1", kind: "StatefulSet", metadata: metadata("postgres") },
      spec: { serviceName: "postgres", replicas: 1, selector: { matchLabels: labels }, template },
    },
  ];
}
