import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ProvisionFigures,
  type ProvisionRequest,
  provisionNotes,
  provisionSizes,
} from "../../src/manifests/provision.ts";
import { argocdInstance } from "../../src/manifests/provision-argocd.ts";
import { statefulSetInstance } from "../../src/manifests/provision-statefulset.ts";
import type { Manifest } from "../../src/manifests/request.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";
import { schemaProblems } from "./schema.ts";
import { documents, podsOf } from "./support.ts";

const gib = 1024 ** 3;
const figures: ProvisionFigures = {
  ...{ major: 17, sizeBytes: 30 * gib, connections: 80 },
  ...{ extensions: ["plpgsql", "pg_trgm"], collate: "en_US.UTF-8" },
};
const request: ProvisionRequest = {
  ...{ database: "litellm", namespace: "litellm", name: "litellm-db", storageClass: "fast" },
  ...{ secret: { name: "litellm-db", key: "postgres-password" }, figures },
};

let cluster: Cluster;
let pgkit: Pgkit;
beforeAll(async () => {
  cluster = await startCluster();
  await cluster.psql("CREATE DATABASE litellm");
  await cluster.psql("CREATE EXTENSION pg_trgm", "litellm");
  const applications = ["applications:", "  litellm: { instance: shared, dedicated: own }"];
  const own = "postgresql://postgres@litellm-pg.llm.svc.cluster.local/postgres";
  pgkit = await pgkitFor({ shared: { cluster } }, applications);
  const secret = "{ secret: { namespace: llm, name: litellm-superuser, key: pw } }";
  const yaml = `${pgkit.yaml}  own: { url: '${own}', passwordFrom: ${secret} }\n`;
  const { run } = pgkit;
  pgkit.run = (args, options) => run(args, { ...options, files: { "pgkit.yaml": yaml } });
});
afterAll(async () => {
  await pgkit[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

test.each([
  ["statefulset", statefulSetInstance],
  ["argocd", argocdInstance],
] as const)("what is rendered (%s) is what Kubernetes takes, and changes only on purpose", async (format, render) => {
  const manifests = render(request);
  expect(await Promise.all(manifests.map(schemaProblems))).toEqual(manifests.map(() => []));
  await expect(`${JSON.stringify(manifests, undefined, 2)}\n`).toMatchFileSnapshot(`golden/provision-${format}.json`);
});

test("the server can be moved to and back, and runs under pod security restricted", () => {
  const pod = podsOf(statefulSetInstance(request) as Manifest[]).get("litellm-db");
  const [container] = pod?.containers ?? [];
  expect(container?.args).toContain("wal_level=logical");
  expect(pod?.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
  expect(container?.securityContext).toMatchObject({
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"] },
  });
  expect(JSON.stringify(argocdInstance(request))).toContain("wal_level = 'logical'");
});

test.each([
  [
    "an empty one",
    { sizeBytes: 8_000_000, connections: 0 },
    { volumeBytes: 10 * gib, memoryBytes: gib, maxConnections: 100 },
  ],
  ["30 GiB", { sizeBytes: 30 * gib, connections: 80 }, { volumeBytes: 90 * gib, maxConnections: 200 }],
  ["a bit over 4 GiB", { sizeBytes: 4 * gib + 1, connections: 1 }, { volumeBytes: 13 * gib }],
  [
    "2 TiB",
    { sizeBytes: 2048 * gib, connections: 900 },
    { volumeBytes: 6144 * gib, cpuMillis: 4000, maxConnections: 1800 },
  ],
])("sizes of %s", (_, given, sizes) => {
  expect(provisionSizes({ ...figures, ...given })).toMatchObject(sizes);
});

test("an extension or locale that the image may lack is told", () => {
  const exotic = { ...request, figures: { ...figures, extensions: ["vector", "postgis"], collate: "de_CH.utf8" } };
  expect(provisionNotes(request, "statefulset")).toEqual([]);
  expect(provisionNotes(exotic, "statefulset").join("\n")).toMatch(/extensions postgis need.*\n.*locale de_CH\.utf8/);
  expect(provisionNotes(exotic, "argocd").join("\n")).toContain("vector, postgis");
  expect(JSON.stringify(statefulSetInstance(exotic))).toContain("pgvector/pgvector:pg17");
});

test("the command reads the database's figures, and takes names and Secret from the configuration", async () => {
  const idle = await cluster.connect("litellm");
  const ran = await pgkit.run(["provision", "litellm", "--render"]);
  await idle.end();
  expect(ran).toMatchObject({ status: 0, stderr: "" });
  expect(ran.stdout).toContain(`and 1 sessions on PostgreSQL ${cluster.major}.`);
  expect(ran.stdout).toContain("kubectl -n llm create secret generic litellm-superuser --from-literal=pw=");
  expect(ran.stdout).not.toContain(cluster.password);
  const manifests = documents(ran.stdout);
  expect(manifests.map(({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`)).toEqual([
    "Service llm/litellm-pg",
    "StatefulSet llm/litellm-pg",
  ]);
  expect(await Promise.all(manifests.map(schemaProblems))).toEqual([[], []]);
  expect(ran.stdout).toContain(`postgres:${cluster.major}`);
  const json = await pgkit.run(["provision", "litellm", "--render", "--format", "argocd", "--json"]);
  expect(JSON.parse(json.stdout)).toMatchObject({
    items: [{ kind: "Application" }],
    figures: { major: cluster.major, extensions: ["pg_trgm", "plpgsql"] },
  });
});

test("without --render nothing is done, and a database that is not there is told", async () => {
  expect(await pgkit.run(["provision", "litellm"])).toMatchObject({ status: 2 });
  const ran = await pgkit.run(["provision", "nosuch", "--render", "--instance", "shared"]);
  expect(ran.status).toBe(10);
  expect(ran.stderr).toContain("nosuch");
});
