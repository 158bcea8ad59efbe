import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { provisionInstance } from "../../src/cli/provision.ts";
import { type Clock, systemClock } from "../../src/lib/time.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";
import { pgkitFor } from "../support/pgkit.ts";
import { type RunOptions, run, testCommand } from "./run.ts";

let api: KubeApi;
let source: Cluster;
let target: Cluster;
beforeAll(async () => {
  const settings = { wal_level: "logical" };
  [api, source, target] = await Promise.all([
    startKubeApi(),
    startCluster({ settings }),
    startCluster({ lineage: "target", settings }),
  ]);
  await source.psql("CREATE DATABASE litellm");
});
afterAll(async () => {
  await Promise.all([api, source, target].map((each) => each[Symbol.asyncDispose]()));
});

let namespace = "";
let round = 0;
beforeEach(() => {
  round += 1;
  namespace = `llm-${round}`;
});

const configMap = (name: string, value = "1") =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata: { name: ${name}, namespace: ${namespace} }\ndata: { a: '${value}' }\n`;
const ownNamespace = () => `apiVersion: v1\nkind: Namespace\nmetadata: { name: ${namespace} }\n`;

async function options(
  files: Record<string, string>,
  more: RunOptions & { kubeconfig?: string; password?: string } = {},
) {
  const { kubeconfig = await api.kubeconfig(), password = target.password, ...rest } = more;
  const url = `postgresql://postgres:${password}@${target.host}:${target.port}/postgres`;
  const files_ = { "pgkit.yaml": `instances: { own: { url: '${url}' } }`, ...files };
  return { env: { PGKIT_KUBECONFIG: kubeconfig }, files: files_, ...rest, commands: [provisioning] };
}

const provisioning = testCommand(async (context) => {
  await provisionInstance(context, `${context.cwd}/own`, context.instance("own"));
  context.out.result({ json: {}, text: "the move begins" });
  return 0;
});

test("a folder's documents are applied, namespaces first, and the move waits until the server answers SQL", async () => {
  await target.stop();
  const files = {
    "own/a.yaml": `# nothing\n---\n${configMap("first")}---\n${JSON.stringify({ apiVersion: "v1", kind: "List", items: [{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "second", namespace } }] })}\n`,
    "own/b.yml": ownNamespace(),
    "own/README.md": "not: [yaml",
  };
  let pauses = 0;
  let restarted: Promise<void> | undefined;
  // It starts only after it was asked three times.
  const clock: Clock = {
    ...systemClock,
    delay: (ms, signal) => {
      pauses += 1;
      if (pauses === 3) restarted = target.restart();
      return systemClock.delay(Math.min(ms, 200), signal);
    },
  };
  const before = api.requests.length;
  const ran = await run(["try"], await options(files, { clock }));
  await restarted;
  expect(ran).toMatchObject({ status: 0, stdout: "the move begins\n" });
  expect(api.requests.slice(before).filter((each) => each.startsWith("patch"))).toEqual([
    `patch namespaces ${namespace}`,
    `patch configmaps ${namespace}/first`,
    `patch configmaps ${namespace}/second`,
  ]);
  expect(pauses).toBeGreaterThanOrEqual(3);
  expect(ran.stderr).toContain("waiting for own to answer");
  expect(ran.stderr).toContain(`applied Namespace ${namespace}\n`);
  const again = await run(["try"], await options(files));
  expect(again).toMatchObject({ status: 0, stdout: "the move begins\n" });
});

test("a server that never answers ends it after ten minutes, and says that the move has not begun", async () => {
  await target.stop();
  let passedMs = 0;
  const clock: Clock = {
    ...systemClock,
    monotonicMs: () => passedMs,
    delay: async (ms) => {
      passedMs += ms;
    },
  };
  const ran = await run(["try"], await options({ own: ownNamespace() }, { clock }));
  await target.restart();
  expect(ran).toMatchObject({ status: 14, stdout: "" });
  expect(ran.stderr).toContain("did not answer within 10 min");
  expect(ran.stderr).toContain("the move has not begun");
  expect(passedMs).toBeLessThan(610_000);
});

test("a wrong password ends the wait at once", async () => {
  const ran = await run(["try"], await options({ own: ownNamespace() }, { password: "wrong" }));
  expect(ran).toMatchObject({ status: 12, stdout: "" });
  expect(ran.stderr).toContain("password authentication failed");
  expect(ran.stderr).not.toContain("waiting for");
});

test("a field that another manages is not taken, and its owner is named", async () => {
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  api.put({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "taken", namespace }, data: { a: "0" } });
  api.change(
    "ConfigMap",
    namespace,
    "taken",
    (object) => {
      object["data"] = { a: "2" };
    },
    "argocd-controller",
  );
  const ran = await run(["try"], await options({ own: configMap("taken") }));
  expect(ran).toMatchObject({ status: 13, stdout: "" });
  expect(ran.stderr).toContain("argocd-controller");
  expect(api.read("ConfigMap", namespace, "taken")?.["data"]).toEqual({ a: "2" });
});

test("an account that may not apply is told the rule that it lacks", async () => {
  const kubeconfig = await api.kubeconfig("weak", {});
  const ran = await run(["try"], await options({ own: configMap("denied") }, { kubeconfig }));
  expect(ran).toMatchObject({ status: 12, stdout: "" });
  expect(ran.stderr).toContain("resources: [configmaps], verbs: [patch], resourceNames: [denied]");
});

test.each([
  ["broken YAML", { "own/a.yaml": "a: [1\nstringData: { password: hush }" }, "own/a.yaml:"],
  ["no object", { "own/a.yaml": "- 1" }, "a document is no object"],
  ["no kind", { own: "metadata: { name: a }" }, "no apiVersion or kind"],
  ["no name", { own: "apiVersion: v1\nkind: Secret" }, "a Secret has no metadata.name"],
  ["a Kustomization", { own: "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization" }, "kubectl kustomize"],
  ["an empty file", { own: "# nothing" }, "there is no object in it"],
  ["no file", {}, "ENOENT"],
] as const)("%s is refused before anything is applied", async (_, files, said) => {
  const before = api.requests.length;
  const more = "own/a.yaml" in files ? { "own/0.yaml": configMap("before") } : {};
  const ran = await run(["try"], await options({ ...more, ...files }));
  expect(ran).toMatchObject({ status: 2, stdout: "" });
  expect(ran.stderr).toContain(said);
  expect(ran.stderr).not.toContain("hush");
  expect(api.requests.slice(before)).toEqual([]);
});

test("move --dry-run says what would be applied, and applies nothing; the move itself applies it first", async () => {
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  await using pgkit = await pgkitFor({ shared: { cluster: source }, own: { cluster: target } }, [
    "applications:",
    "  litellm: { instance: shared, dedicated: own }",
  ]);
  const env = { PGKIT_KUBECONFIG: await api.kubeconfig() };
  const files = { "own.yaml": `${ownNamespace()}---\n${configMap("made")}` };
  const line = ["move", "litellm", "--to", "dedicated", "--offline", "--provision", "own.yaml"];
  await target.stop();
  const planned = await pgkit.run([...line, "--dry-run"], { env, files });
  await target.restart();
  expect(planned).toMatchObject({ status: 0 });
  expect(planned.stdout).toContain(`would apply Namespace ${namespace}, which is there`);
  expect(planned.stdout).toContain(`would apply ConfigMap ${namespace}/made, which is not there`);
  expect(api.read("ConfigMap", namespace, "made")).toBeUndefined();
  const moved = await pgkit.run(line, { env, files });
  expect(moved.stderr).toContain(`applied ConfigMap ${namespace}/made`);
  expect(moved.status).toBe(0);
  expect(await target.psql("SELECT count(*) FROM pg_database WHERE datname = 'litellm'")).toBe("1");
});
