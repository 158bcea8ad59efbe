import { chmod, chown, copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Manifest } from "../../src/kube/kube.ts";
import { openKube } from "../../src/kube/open.ts";
import type { Workload } from "../../src/kube/workloads.ts";
import { systemClock } from "../../src/lib/time.ts";
import { startMoveClusters } from "../move/support.ts";
import type { Cluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { startKubelet } from "../support/kube-api/kubelet.ts";
import { installPgkitKinds } from "../support/kube-api/objects.ts";
import { startKubeApi } from "../support/kube-api/server.ts";
import { kubernetesStory, type StoryWorld } from "./kubernetes-story.ts";

const deps = { clock: systemClock, report: () => undefined };

kubernetesStory("of the tests", async (): Promise<StoryWorld> => {
  const [api, { source: a, target: b, ...clusters }] = await Promise.all([startKubeApi(), startMoveClusters()]);
  const folder = await mkdtemp(join(tmpdir(), "pgkit-in-cluster-"));
  const folders = { repository: join(folder, "repository"), stream: join(folder, "stream") };
  const tmp = join(folder, "tmp");
  // The Pods run as whoever servers run as: root may not, and a scratch server needs a name.
  const { runAs } = a;
  await chmod(folder, 0o755);
  for (const each of [folders.repository, folders.stream, tmp]) {
    await mkdir(each);
    if (runAs !== undefined) await chown(each, runAs.uid, runAs.gid);
  }
  const namespace = "databases";
  // In the place of a token.
  const inPods = join(folder, "kubeconfig");
  installPgkitKinds(api);
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  await startKubelet(api, {
    env: (mounts) => ({
      TMPDIR: mounts.get("/scratch") ?? tmp,
      PGKIT_CONFIG: join(mounts.get("/etc/pgkit") ?? "", "pgkit.yaml"),
      PGKIT_KUBECONFIG: inPods,
    }),
  });
  const kubeconfig = await api.kubeconfig();
  await copyFile(kubeconfig, inPods);
  if (runAs !== undefined) await chown(inPods, runAs.uid, runAs.gid);
  const server = ({ host, port, password }: Cluster) => ({ host, port, password });
  return {
    kube: await openKube({ kubeconfig, env: {} }, deps),
    ...{ kubeconfig, namespace, folders, image: "pgkit", patienceMs: 150_000 },
    servers: { a: server(a), b: server(b) },
    moverAccount: "pgkit-logical",
    settings: runAs === undefined ? [] : [`user: ${runAs.uid}`],
    async close() {
      await api[Symbol.asyncDispose]();
      await clusters[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
});

// A cluster of whoever runs this: docs/kubernetes-testing.md.
const kubeconfig = process.env["PGKIT_TEST_KUBECONFIG"];
const image = process.env["PGKIT_TEST_IMAGE"];
if (kubeconfig !== undefined && image !== undefined) {
  kubernetesStory(`by ${kubeconfig}`, () => realCluster(kubeconfig, image), { ownServers: true });
}

async function realCluster(path: string, image: string): Promise<StoryWorld> {
  const { signal } = new AbortController();
  const kube = await openKube({ kubeconfig: path, env: {} }, deps);
  const namespace = `pgkit-story-${systemClock.random().toString(36).slice(2, 8)}`;
  const password = systemClock.random().toString(36).slice(2);
  await kube.create({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } }, signal);
  const manifests = [
    ...["a", "b"].flatMap((name) => serverManifests(name, namespace, password)),
    ...ownManifests(namespace),
  ];
  for (const manifest of manifests) await kube.create(manifest, signal);
  for (const name of ["a", "b"]) {
    await eventually(async () => {
      const ref = { apiVersion: "apps/v1", kind: "StatefulSet", namespace, name };
      if ((await kube.get<Workload>(ref, signal))?.status?.readyReplicas !== 1) throw new Error(`${name} is not ready`);
    }, 600_000);
  }
  const server = (name: string) => ({ host: `${name}.${namespace}`, port: 5432, password });
  return {
    kube,
    ...{ kubeconfig: path, namespace, image, patienceMs: 600_000 },
    servers: { a: server("a"), b: server("b") },
    moverAccount: "mover",
    folders: { repository: "/repository", stream: "/stream" },
    // The claim is rendered, and a cluster of one node lets several of its Pods write to it.
    settings: ["repositoryClaim: repository"],
    async close() {
      await kube.delete({ apiVersion: "v1", kind: "Namespace", name: namespace }, {}, signal);
    },
  };
}

/** PostgreSQL's own image, which lets in for replication only who is told to. */
function serverManifests(name: string, namespace: string, password: string): Manifest[] {
  const labels = { app: name };
  const metadata = { name, namespace };
  const hba = "echo 'host replication all all scram-sha-256' >> \"$PGDATA/pg_hba.conf\"\n";
  const mounts = [
    { name: "init", mountPath: "/docker-entrypoint-initdb.d" },
    { name: "data", mountPath: "/srv/postgres" },
  ];
  const claim = { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "2Gi" } } };
  const volumeClaimTemplates = [{ metadata: { name: "data" }, spec: claim }];
  const container = {
    name: "postgres",
    image: process.env["PGKIT_TEST_POSTGRES_IMAGE"] ?? "postgres:17",
    args: ["-c", "wal_level=logical", "-c", "max_replication_slots=20", "-c", "max_wal_senders=20"],
    env: [
      { name: "POSTGRES_PASSWORD", value: password },
      { name: "PGDATA", value: "/srv/postgres/data" },
    ],
    readinessProbe: { exec: { command: ["pg_isready", "-h", "127.0.0.1", "-U", "postgres"] }, periodSeconds: 1 },
    volumeMounts: mounts,
  };
  const volumes = [{ name: "init", configMap: { name } }];
  const template = { metadata: { labels }, spec: { containers: [container], volumes } };
  const port = { port: 5432, targetPort: 5432 };
  return [
    { apiVersion: "v1", kind: "ConfigMap", metadata, data: { "hba.sh": hba } },
    { apiVersion: "v1", kind: "Service", metadata, spec: { selector: labels, ports: [port] } },
    {
      ...{ apiVersion: "apps/v1", kind: "StatefulSet", metadata },
      spec: { serviceName: name, replicas: 1, selector: { matchLabels: labels }, template, volumeClaimTemplates },
    },
  ];
}

/** The repository's volume, and an account that may what a move does. */
function ownManifests(namespace: string): Manifest[] {
  const claim = { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } };
  const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "edit" };
  const metadata = { name: "mover", namespace };
  return [
    { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "repository", namespace }, spec: claim },
    { apiVersion: "v1", kind: "ServiceAccount", metadata },
    {
      ...{ apiVersion: "rbac.authorization.k8s.io/v1", kind: "RoleBinding", metadata, roleRef },
      subjects: [{ kind: "ServiceAccount", ...metadata }],
    },
  ];
}
