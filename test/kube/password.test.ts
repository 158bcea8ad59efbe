import { afterAll, beforeAll, expect, test } from "vitest";
import { openSession } from "../../src/postgres/session.ts";
import { type RunOptions, run, testCommand } from "../cli/run.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";

let api: KubeApi;
let cluster: Cluster;

beforeAll(async () => {
  [api, cluster] = await Promise.all([startKubeApi(), startCluster()]);
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "databases" } });
  await cluster.psql("CREATE ROLE rotated SUPERUSER LOGIN PASSWORD 'first-password'");
});
afterAll(async () => {
  await api[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

function secret(name: string, data: Record<string, Buffer | string>): void {
  const encoded = Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString("base64")]);
  const metadata = { name, namespace: "databases" };
  api.put({ apiVersion: "v1", kind: "Secret", metadata, data: Object.fromEntries(encoded) });
}

async function options(name: string, kubeconfig?: string): Promise<RunOptions> {
  const url = `postgresql://rotated@${cluster.host}:${cluster.port}/postgres`;
  const from = `{ secret: { namespace: databases, name: ${name}, key: postgres-password } }`;
  return {
    env: { PGKIT_KUBECONFIG: kubeconfig ?? (await api.kubeconfig()) },
    files: { "pgkit.yaml": `instances: { a: { url: '${url}', passwordFrom: ${from} } }` },
    readSecret: "kube",
  };
}

/** Connects as often as it is told, and prints the role. */
function connecting(between: (() => Promise<void>)[] = []) {
  return testCommand(async (context) => {
    const connection = await context.connection(context.instance());
    for (const step of [async () => undefined, ...between]) {
      await step();
      const session = await openSession(connection);
      const [row] = await session.query<{ name: string }>("SELECT current_user AS name");
      await session.close();
      context.out.result({ json: row, text: `connected as ${row?.name}` });
    }
    return 0;
  });
}

test("a password comes out of its Secret, also where echo has put a line end behind it", async () => {
  secret("with-line-end", { "postgres-password": "first-password\n" });
  const ran = await run(["try"], { ...(await options("with-line-end")), commands: [connecting()] });
  expect(ran).toMatchObject({ status: 0, stdout: "connected as rotated\n", stderr: "" });
});

test("a password that is rotated under a run is read again, and used by whatever connects from then on", async () => {
  secret("rotating", { "postgres-password": "first-password" });
  const rotate = async () => {
    await cluster.psql("ALTER ROLE rotated PASSWORD 'second-password'");
    api.change("Secret", "databases", "rotating", (object) => {
      object["data"] = { "postgres-password": Buffer.from("second-password").toString("base64") };
    });
  };
  const before = api.requests.length;
  const again = async () => undefined;
  const ran = await run(["try"], { ...(await options("rotating")), commands: [connecting([rotate, again])] });
  expect(ran).toMatchObject({ status: 0, stdout: "connected as rotated\n".repeat(3), stderr: "" });
  expect(api.requests.slice(before)).toEqual(["get secrets databases/rotating", "get secrets databases/rotating"]);
  await cluster.psql("ALTER ROLE rotated PASSWORD 'first-password'");
});

test("a password that is wrong and stays wrong is refused as PostgreSQL does", async () => {
  secret("wrong", { "postgres-password": "never-this" });
  const ran = await run(["try"], { ...(await options("wrong")), commands: [connecting()] });
  expect(ran.status).toBe(12);
  expect(ran.stderr).toContain("password authentication failed");
});

test.each([
  ["absent", undefined, 10, "there is no Secret databases/absent", "kubectl -n databases get secrets"],
  [
    "other-key",
    { password: "x" },
    10,
    "the key postgres-password of Secret databases/other-key is not there",
    "it has: password",
  ],
  ["bytes", { "postgres-password": Buffer.from([0xff, 0xfe, 0x00, 0x80]) }, 13, "is no text", "stringData"],
  ["empty", { "postgres-password": "" }, 13, "is empty", "store the text"],
] as const)("a Secret that is no use (%s) is told with what to do", async (name, data, status, message, hint) => {
  if (data !== undefined) secret(name, data);
  const ran = await run(["try"], { ...(await options(name)), commands: [connecting()] });
  expect(ran.status).toBe(status);
  expect(ran.stderr).toContain(message);
  expect(ran.stderr).toContain(hint);
});

test("an account that may not read it is told the rule that it lacks", async () => {
  const kubeconfig = await api.kubeconfig("system:serviceaccount:databases:pgkit", {});
  const ran = await run(["try"], { ...(await options("rotating", kubeconfig)), commands: [connecting()] });
  expect(ran.status).toBe(12);
  expect(ran.stderr).toContain('{ apiGroups: [""], resources: [secrets], verbs: [get], resourceNames: [rotating] }');
});

test("where no cluster is known, that is said", async () => {
  const { env: _, ...rest } = await options("rotating");
  const ran = await run(["try"], { ...rest, commands: [connecting()] });
  expect(ran.status).toBe(2);
  expect(ran.stderr).toContain("no Kubernetes cluster is named");
});
