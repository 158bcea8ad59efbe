import { chmod, chown, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run } from "../cli/run.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { startKubelet } from "../support/kube-api/kubelet.ts";
import { installPgkitKinds, type Obj, tree } from "../support/kube-api/objects.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";

const namespace = "databases";
/** It only ends what hangs. */
const storyMs = 900_000;
let api: KubeApi;
let cluster: Cluster;
let folder: string;
let yaml: string;

/** pgkit as a person runs it, outside of the cluster. */
const laptop = async (...args: string[]) =>
  run(args, {
    files: { "pgkit.yaml": yaml },
    env: { PGKIT_KUBECONFIG: await api.kubeconfig(), A_PASSWORD: cluster.password },
    readSecret: "kube",
  });
const volume = () => dirname(cluster.dataDir);

/** A server on a volume as a StatefulSet has it, and all that `pgkit manifests` renders for it. */
beforeAll(async () => {
  [api, cluster] = await Promise.all([startKubeApi(), startCluster()]);
  await cluster.stop();
  folder = await mkdtemp(join(tmpdir(), "pgkit-restore-in-cluster-"));
  await chmod(folder, 0o755);
  const { runAs } = cluster;
  for (const name of ["repository", "stream", "tmp"]) {
    await mkdir(join(folder, name));
    if (runAs !== undefined) await chown(join(folder, name), runAs.uid, runAs.gid);
  }
  yaml = configuration();
  installPgkitKinds(api);
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  await startKubelet(api, {
    env: (mounts) => ({
      TMPDIR: mounts.get("/scratch") ?? join(folder, "tmp"),
      PGKIT_CONFIG: join(mounts.get("/etc/pgkit") ?? "", "pgkit.yaml"),
    }),
  });
  const data = { A_PASSWORD: Buffer.from(cluster.password).toString("base64") };
  api.put({ apiVersion: "v1", kind: "Secret", metadata: { name: "pgkit", namespace }, data });
  for (const object of server()) api.put(object);
  const rendered = await laptop("manifests", "--json");
  for (const manifest of JSON.parse(rendered.stdout).items as Obj[]) api.put(manifest);
  for (const name of ["postgresql", "pgkit-stream-shared"]) await isReady(name);
}, storyMs);
afterAll(async () => {
  await api[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function isReady(name: string): Promise<void> {
  await eventually(() => {
    expect(tree(api.read("StatefulSet", namespace, name)?.["status"])["readyReplicas"]).toBe(1);
  }, storyMs);
}

function configuration(): string {
  const { runAs, host, port } = cluster;
  return [
    `repository: file://${join(folder, "repository")}`,
    "kubernetes:",
    "  image: pgkit",
    "  networkPolicies: false",
    ...(runAs === undefined ? [] : [`  user: ${runAs.uid}`]),
    "instances:",
    "  shared:",
    `    url: postgresql://postgres@${host}:${port}/postgres`,
    "    passwordFrom: { env: A_PASSWORD }",
    "    kubernetes: { statefulSet: postgresql }",
    `    archive: { method: stream, streamFolder: ${join(folder, "stream")}, flushEvery: 1s }`,
    '    schedule: { base: "30 1 * * 0" }',
    "",
  ].join("\n");
}

function server(): Obj[] {
  const { binDir, dataDir, port, runAs } = cluster;
  const settings = { port: `${port}`, unix_socket_directories: volume(), listen_addresses: "127.0.0.1", fsync: "off" };
  const words = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const ready = { exec: { command: [join(binDir, "pg_isready"), "-h", "127.0.0.1", "-p", `${port}`] } };
  const container = {
    ...{ name: "postgresql", image: "postgres:17", command: [join(binDir, "postgres"), "-D", dataDir, ...words] },
    ...{ readinessProbe: ready, volumeMounts: [{ name: "data", mountPath: volume() }] },
  };
  const securityContext = runAs === undefined ? {} : { runAsUser: runAs.uid, runAsGroup: runAs.gid };
  const storage = { requests: { storage: "20Gi" } };
  return [
    {
      ...{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "data-postgresql-0", namespace } },
      spec: { accessModes: ["ReadWriteOnce"], resources: storage },
    },
    {
      ...{ apiVersion: "apps/v1", kind: "StatefulSet", metadata: { name: "postgresql", namespace } },
      spec: {
        ...{ replicas: 1, selector: { matchLabels: { app: "pg" } } },
        template: { metadata: { labels: { app: "pg" } }, spec: { securityContext, containers: [container] } },
        volumeClaimTemplates: [{ metadata: { name: "data" } }],
      },
    },
  ];
}

describe("an instance in its cluster", { timeout: storyMs }, () => {
  let moment = "";
  const utc = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

  it("is restored to the moment before a disaster, also where its Pod is evicted, and is backed up anew", async () => {
    await cluster.psql("CREATE DATABASE app");
    await cluster.psql("CREATE TABLE notes AS SELECT n FROM generate_series(1, 1000) n", "app");
    expect(await laptop("backup", "base", "--in-kubernetes")).toMatchObject({ status: 0 });
    await cluster.psql("INSERT INTO notes SELECT 0", "app");
    moment = await cluster.psql(`SELECT ${utc}`);
    await cluster.psql("DROP TABLE notes", "app");
    const restore = ["restore", "--in-kubernetes", "shared", "--to-time", moment];
    await eventually(async () => {
      const planned = await laptop(...restore, "--dry-run", "--json");
      expect(planned.status, planned.stderr).toBe(0);
      expect(JSON.parse(planned.stdout)).toMatchObject({ statefulSet: "postgresql", risks: [] });
    }, storyMs);
    const evicted = evictOnce();
    const ran = await laptop(...restore, "--yes", "--json");
    expect(ran.status, ran.stderr).toBe(0);
    expect(await evicted).toBe(true);
    const told = JSON.parse(ran.stdout);
    expect(told).toMatchObject({ state: "restored", reached: { timeline: 2 }, baseBackup: expect.any(String) });
    expect(await cluster.psql("SELECT count(*) FROM notes", "app")).toBe("1001");
    expect(await readdir(told.keptAt)).toContain("PG_VERSION");
    await cluster.psql("INSERT INTO notes SELECT 0", "app");
    const later = await cluster.psql(`SELECT ${utc}`);
    await cluster.psql("DELETE FROM notes WHERE n = 1", "app");
    await eventually(async () => {
      const planned = await laptop("restore", "--data-dir", "/nowhere", "--to-time", later, "--dry-run");
      expect(planned.status, planned.stderr).toBe(0);
    }, 60_000);
    const base = JSON.parse((await laptop("show", told.baseBackup, "--json")).stdout);
    expect(base).toMatchObject({ kind: "base" });
  });

  /** Ends the Pod of the restore once the old data is out of its way. */
  async function evictOnce(): Promise<boolean> {
    await eventually(async () => {
      expect((await readdir(volume())).some((name) => /^pgkit-before-[^.]*$/.test(name))).toBe(true);
    }, storyMs);
    const pods = names.filter((name) => name.startsWith("pgkit-restore-"));
    for (const name of pods) api.controllers.evict(namespace, name);
    return pods.length === 1;
  }

  const names: string[] = [];
  beforeAll(() => {
    api.onChange(({ kind, metadata }, type) => {
      if (kind === "Pod" && type === "ADDED") names.push(metadata.name);
    });
  });

  it("has its old data again after a rollback", async () => {
    const refused = await laptop("restore", "--in-kubernetes", "shared", "--to-time", moment, "--yes");
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining("--finish") });
    const back = await laptop("restore", "--in-kubernetes", "shared", "--rollback", "--yes", "--json");
    expect(back.status, back.stderr).toBe(0);
    expect(JSON.parse(back.stdout)).toMatchObject({ state: "rolled-back" });
    expect(await cluster.psql("SELECT to_regclass('notes') IS NULL", "app")).toBe("t");
    // What is written on the old history from here on is stored.
    await cluster.psql("CREATE TABLE later AS SELECT 1 n", "app");
    const later = await cluster.psql(`SELECT ${utc}`);
    await cluster.psql("DROP TABLE later", "app");
    const words = ["--data-dir", "/nowhere", "--to-time", later, "--timeline", "1", "--dry-run"];
    await eventually(async () => {
      const planned = await laptop("restore", ...words);
      expect(planned.status, planned.stderr).toBe(0);
    }, storyMs);
  });
});
