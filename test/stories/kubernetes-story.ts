import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Kube, Manifest } from "../../src/kube/kube.ts";
import { runJob } from "../../src/kube/run-job.ts";
import type { CronJob, Job, Secret, Workload } from "../../src/kube/workloads.ts";
import { systemClock } from "../../src/lib/time.ts";
import { type Ran, run } from "../cli/run.ts";
import { eventually } from "../support/eventually.ts";

/** A cluster with two PostgreSQL servers in it, for this run alone. */
export interface StoryWorld {
  kube: Kube;
  /** For pgkit on the laptop. */
  kubeconfig: string;
  namespace: string;
  image: string;
  /** As Pods reach them; they take replication, logical too. */
  servers: { a: ServerPlace; b: ServerPlace };
  /** Folders of the Pods: the repository, and the streamer's. */
  folders: { repository: string; stream: string };
  /** A ServiceAccount that may change Secrets and workloads. */
  moverAccount: string;
  /** Further lines of `kubernetes:`. */
  settings: string[];
  /** How long a Pod may take to be there. */
  patienceMs: number;
  close(): Promise<void>;
}

interface ServerPlace {
  host: string;
  port: number;
  password: string;
}

/** It only ends what hangs: a real cluster pulls images first. */
const storyMs = 900_000;

const signal = new AbortController().signal;

/**
 * What `docs/kubernetes.md` promises, from the manifests on; on the server of the tests and on any real cluster. `ownServers`: they are
 * StatefulSets of the cluster, which can be restored as a whole; those of the tests are not, and kubernetes-restore.test.ts has one that is.
 */
export function kubernetesStory(
  name: string,
  open: () => Promise<StoryWorld>,
  { ownServers = false }: { ownServers?: boolean } = {},
): void {
  describe(`pgkit in a cluster (${name})`, { timeout: storyMs }, () => {
    let world: StoryWorld;
    let yaml = "";
    let count = 0;
    const laptop = (...args: string[]) =>
      run(args, {
        files: { "pgkit.yaml": yaml },
        env: { PGKIT_KUBECONFIG: world.kubeconfig, PGKIT_INSTANCE: "a" },
      });
    const ref = (apiVersion: string, kind: string, which: string) => {
      return { apiVersion, kind, namespace: world.namespace, name: which };
    };
    /** A Job of the image that runs a program beside pgkit's. */
    const job = (command: string[], on: "a" | "b" = "a"): Manifest => {
      count += 1;
      const secret = { secretKeyRef: { name: "pgkit", key: `${on.toUpperCase()}_PASSWORD` } };
      const { image, namespace } = world;
      const server = world.servers[on];
      const env = [
        { name: "PGPASSWORD", valueFrom: secret },
        ...Object.entries({ PGHOST: server.host, PGPORT: `${server.port}`, PGUSER: "postgres" }).map(([key, value]) => {
          return { name: key, value };
        }),
      ];
      const containers = [{ name: "psql", image, command, env }];
      const template = { spec: { restartPolicy: "Never", terminationGracePeriodSeconds: 1, containers } };
      const metadata = { name: `psql-${count}`, namespace };
      return { apiVersion: "batch/v1", kind: "Job", metadata, spec: { backoffLimit: 0, template } };
    };
    const done = async (manifest: Manifest): Promise<string> => {
      const lines: string[] = [];
      const options = { onLine: (line: string) => lines.push(line), clock: systemClock, report: () => undefined };
      const { exitStatus } = await runJob(world.kube, manifest, options, signal);
      expect(exitStatus, lines.join("\n")).toBe(0);
      return lines.join("\n");
    };
    const psql = async (sql: string, database = "postgres", on: "a" | "b" = "a"): Promise<string> =>
      await done(job(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql], on));

    beforeAll(async () => {
      world = await open();
      yaml = configuration(world);
      const { kube, namespace, servers } = world;
      const stringData = { A_PASSWORD: servers.a.password, B_PASSWORD: servers.b.password };
      await kube.create(
        { apiVersion: "v1", kind: "Secret", metadata: { name: "pgkit", namespace }, stringData },
        signal,
      );
      const rendered = await laptop("manifests", "--json");
      expect(rendered.stderr).toBe("");
      for (const manifest of JSON.parse(rendered.stdout).items as Manifest[]) await kube.apply(manifest, {}, signal);
      await psql("CREATE DATABASE app");
      await psql("CREATE TABLE notes AS SELECT n FROM generate_series(1, 1000) n", "app");
    }, storyMs);
    afterAll(() => world.close());

    it("stores WAL by its streamer, which says when it is ready", async () => {
      await eventually(async () => {
        const found = await world.kube.get<Workload>(ref("apps/v1", "StatefulSet", "pgkit-stream-a"), signal);
        expect(found?.status?.readyReplicas).toBe(1);
      }, world.patienceMs);
    });

    it("backs up every database when the CronJob's time comes", async () => {
      const found = await world.kube.get<CronJob>(ref("batch/v1", "CronJob", "pgkit-logical-a"), signal);
      const { metadata, spec } = found?.spec?.jobTemplate ?? {};
      // As `kubectl create job --from` does it, and the controller at two in the morning.
      const manifest = { apiVersion: "batch/v1", kind: "Job", metadata: { ...metadata, ...nameOf("nightly") }, spec };
      await world.kube.create(manifest, signal);
      await ended("nightly");
    });
    const nameOf = (name: string) => ({ name, namespace: world.namespace });
    const ended = async (which: string) => {
      await eventually(async () => {
        const now = await world.kube.get<Job>(ref("batch/v1", "Job", which), signal);
        expect(now?.status?.conditions?.find(({ status }) => status === "True")?.type).toMatch(
          /Complete|SuccessCriteriaMet/,
        );
      }, world.patienceMs);
    };

    it("backs up from a laptop: the Job's progress, result and exit status are those of the command", async () => {
      const ran = await laptop("backup", "logical", "app", "--in-kubernetes", "--json");
      expect(ran.status, ran.stderr).toBe(0);
      expect(JSON.parse(ran.stdout).backups).toMatchObject([{ kind: "logical", instance: "a", database: "app" }]);
      const told = await laptop("backup", "base", "--in-kubernetes");
      expect(told.stderr).toContain(`a Pod as those of CronJob ${world.namespace}/pgkit-base-a is started`);
      expect(told.stderr).toMatch(/base backup of a: done, .* in /);
      expect(told).toMatchObject({ status: 0, stdout: expect.stringContaining("proven by") });
      const absent = await laptop("backup", "logical", "nowhere", "--in-kubernetes");
      expect(absent).toMatchObject({ status: 10, stderr: expect.stringContaining("nowhere") });
    });

    it("keeps two runs apart: the second is told who is at work", async () => {
      const lock = job(["psql", "-c", "BEGIN; LOCK TABLE notes; SELECT pg_sleep(600)", "-d", "app"]);
      await world.kube.create(lock, signal);
      const waiting = async (sql: string) => {
        await eventually(async () => expect(await psql(`SELECT count(*) > 0 FROM ${sql}`)).toBe("t"), world.patienceMs);
      };
      await waiting("pg_stat_activity WHERE wait_event = 'PgSleep'");
      const first = laptop("backup", "logical", "app", "--in-kubernetes");
      await waiting("pg_locks WHERE NOT granted");
      const second = await laptop("backup", "logical", "app", "--in-kubernetes");
      expect(second).toMatchObject({ status: 11, stderr: expect.stringContaining("backup logical on ") });
      await psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
      const { status, stderr } = await first;
      expect(status, stderr).toBe(0);
    });

    it("restores a database beside, from a backup and to a moment", async () => {
      const beside = await laptop("restore", "app", "--as", "app_copy", "--in-kubernetes");
      expect(beside.status, beside.stderr).toBe(0);
      expect(beside.stdout).toContain("restored app_copy");
      expect(await psql("SELECT count(*) FROM notes", "app_copy")).toBe("1000");
      await psql("INSERT INTO notes SELECT 0", "app");
      const moment = await psql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')");
      await psql("DROP TABLE notes; SELECT pg_switch_wal()", "app");
      const at = await eventually(async (): Promise<Ran> => {
        const ran = await laptop("restore", "app", "--to-time", `${moment}Z`, "--as", "app_then", "--in-kubernetes");
        expect(ran.status, ran.stderr).toBe(0);
        return ran;
      }, world.patienceMs);
      expect(at.stdout).toContain("app_then");
      expect(await psql("SELECT count(*) FROM notes", "app_then")).toBe("1001");
    });

    it("moves an application that reads a Secret: it goes on at the other instance", async () => {
      const { kube, servers } = world;
      const url = ({ host, port }: ServerPlace) => `postgresql://shop:shop-secret@${host}:${port}/shop`;
      await psql("CREATE ROLE shop LOGIN PASSWORD 'shop-secret'");
      await psql("CREATE DATABASE shop OWNER shop");
      await psql(
        "CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY); ALTER TABLE ledger OWNER TO shop",
        "shop",
      );
      const stringData = { DATABASE_URL: url(servers.a) };
      await kube.create({ apiVersion: "v1", kind: "Secret", metadata: nameOf("shop-db"), stringData }, signal);
      await kube.create(shop(world), signal);
      const rows = async (on: "a" | "b") => Number(await psql("SELECT count(*) FROM ledger", "shop", on));
      await eventually(async () => expect(await rows("a")).toBeGreaterThan(0), world.patienceMs);
      const said = await done(await mover(["move", "shop", "--to", "b"]));
      expect(said).toContain(`restarting StatefulSet ${world.namespace}/shop, which reads`);
      const there = await rows("b");
      await eventually(async () => expect(await rows("b")).toBeGreaterThan(there), world.patienceMs);
      const found = await kube.get<Secret>(ref("v1", "Secret", "shop-db"), signal);
      expect(Buffer.from(found?.data?.["DATABASE_URL"] ?? "", "base64").toString()).toBe(url(servers.b));
    });
    const wholeInstance = async () => {
      await psql("CREATE TABLE precious AS SELECT 1 AS n");
      const moment = await psql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')");
      await psql("DROP TABLE precious");
      const restore = ["restore", "--in-kubernetes", "a", "--yes"];
      await eventually(
        async () => void (await done(await mover([...restore, "--to-time", `${moment}Z`]))),
        world.patienceMs,
      );
      expect(await psql("SELECT count(*) FROM precious")).toBe("1");
      await done(await mover([...restore, "--rollback"]));
      expect(await psql("SELECT to_regclass('precious') IS NULL")).toBe("t");
    };
    if (ownServers) it("goes back to a moment as a whole, and rolled back is where it was", wholeInstance);
    /** pgkit in the cluster, with what a backup's Pod has, the other password, and a token. */
    const mover = async (args: string[]): Promise<Manifest> => {
      const found = await world.kube.get<CronJob>(ref("batch/v1", "CronJob", "pgkit-logical-a"), signal);
      const { spec, metadata } = found?.spec?.jobTemplate?.spec?.template ?? {};
      const [container] = spec?.containers ?? [];
      const env = [
        ...(container?.env ?? []),
        { name: "B_PASSWORD", valueFrom: { secretKeyRef: { name: "pgkit", key: "B_PASSWORD" } } },
      ];
      const own = { serviceAccountName: world.moverAccount, automountServiceAccountToken: true };
      const template = { metadata, spec: { ...spec, ...own, containers: [{ ...container, args, env }] } };
      count += 1;
      const named = nameOf(`pgkit-${count}`);
      return { apiVersion: "batch/v1", kind: "Job", metadata: named, spec: { backoffLimit: 0, template } };
    };
  });
}

/** Writes all the time, to where the Secret led when it began. */
function shop({ namespace, image }: StoryWorld): Manifest {
  const labels = { app: "shop" };
  const script = `while :; do psql -XAtq "$DATABASE_URL" -c 'INSERT INTO ledger DEFAULT VALUES'; sleep 0.2; done`;
  const from = { secretKeyRef: { name: "shop-db", key: "DATABASE_URL" } };
  const env = [{ name: "DATABASE_URL", valueFrom: from }];
  const containers = [{ name: "shop", image, command: ["sh", "-c", script], env }];
  const template = { metadata: { labels }, spec: { terminationGracePeriodSeconds: 1, containers } };
  const spec = { replicas: 1, serviceName: "shop", selector: { matchLabels: labels }, template };
  return { apiVersion: "apps/v1", kind: "StatefulSet", metadata: { name: "shop", namespace }, spec };
}

function configuration({ servers, folders, image, namespace, settings }: StoryWorld): string {
  const { a, b } = servers;
  return [
    `repository: file://${folders.repository}`,
    "kubernetes:",
    `  image: ${image}`,
    `  namespace: ${namespace}`,
    "  networkPolicies: false",
    ...settings.map((line) => `  ${line}`),
    "instances:",
    "  a:",
    `    url: postgresql://postgres@${a.host}:${a.port}/postgres`,
    "    passwordFrom: { env: A_PASSWORD }",
    `    archive: { method: stream, streamFolder: ${folders.stream}, flushEvery: 1s }`,
    '    schedule: { logical: "0 2 * * *", base: "30 1 * * 0", check: "0 * * * *" }',
    "  b:",
    `    url: postgresql://postgres@${b.host}:${b.port}/postgres`,
    "    passwordFrom: { env: B_PASSWORD }",
    "applications:",
    "  shop:",
    "    instance: a",
    `    switch: { secret: { namespace: ${namespace}, name: shop-db, keys: { url: DATABASE_URL } } }`,
    "",
  ].join("\n");
}
