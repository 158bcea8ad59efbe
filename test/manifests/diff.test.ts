import { afterAll, beforeAll, expect, test } from "vitest";
import { manifestDifferences } from "../../src/manifests/diff.ts";
import type { Manifest } from "../../src/manifests/request.ts";
import { run } from "../cli/run.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";
import { rendered } from "./support.ts";

const config = (cron = "0 2 * * *", more = "") => `kubernetes: { image: i }
repository: s3://b/p
instances: { a: { url: "postgresql://u@h/d", schedule: { prune: "${cron}"${more} } } }
`;
const { manifests } = await rendered(config());
const configMap = manifests.find(({ kind }) => kind === "ConfigMap") as Manifest;
const cronJob = manifests.find(({ kind }) => kind === "CronJob") as Manifest & { spec: Record<string, unknown> };

test.each<[string, object | undefined, object[]]>([
  ["nothing in what is the same", configMap, []],
  [
    "nothing in what the API has added",
    { ...configMap, immutable: false, metadata: { ...configMap.metadata, uid: "u" } },
    [],
  ],
  ["an object that is not there", undefined, [{ action: "add", kind: "ConfigMap", name: "pgkit" }]],
  [
    "data that was changed by hand",
    { ...configMap, data: { "pgkit.yaml": "other\n" } },
    [{ action: "change", fields: [{ path: "data.pgkit.yaml", from: "other\n", to: config() }] }],
  ],
  [
    "data that was added by hand",
    { ...configMap, data: { ...(configMap["data"] as object), more: "x" } },
    [{ action: "change", fields: [{ path: "data.more", from: "x", to: undefined }] }],
  ],
])("a comparison finds %s", (_, live, expected) => {
  expect(manifestDifferences([configMap], [live], [])).toMatchObject(expected);
  expect(manifestDifferences([configMap], [live], [])).toHaveLength(expected.length);
});

test("a comparison looks into lists, and says what is there and rendered no more", () => {
  const live: Manifest = structuredClone(cronJob);
  const pod = (
    live as never as { spec: { jobTemplate: { spec: { template: { spec: { containers: [{ image: string }] } } } } } }
  ).spec.jobTemplate.spec.template.spec;
  pod.containers[0].image = "older";
  Object.assign(pod, { dnsPolicy: "ClusterFirst" });
  const old = { ...cronJob, metadata: { ...cronJob.metadata, name: "pgkit-prune-gone" } };
  expect(manifestDifferences([cronJob], [live], [live, old])).toMatchObject([
    {
      action: "change",
      fields: [{ path: "spec.jobTemplate.spec.template.spec.containers[0].image", from: "older", to: "i" }],
    },
    { action: "remove", name: "pgkit-prune-gone" },
  ]);
});

let api: KubeApi;
beforeAll(async () => {
  api = await startKubeApi();
  const [rbac, net] = ["rbac.authorization.k8s.io", "networking.k8s.io"];
  for (const [group, version, kind, plural] of [
    ["", "v1", "ServiceAccount", "serviceaccounts"],
    [rbac, `${rbac}/v1`, "Role", "roles"],
    [rbac, `${rbac}/v1`, "RoleBinding", "rolebindings"],
    [net, `${net}/v1`, "NetworkPolicy", "networkpolicies"],
    ["policy", "policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"],
  ] as const) {
    api.install({ group, apiVersion: version, kind, plural, namespaced: true });
  }
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "databases" } });
});
afterAll(() => api[Symbol.asyncDispose]());

async function diff(text: string, ...args: string[]) {
  return await run(["manifests", "--diff", ...args], {
    env: { PGKIT_KUBECONFIG: await api.kubeconfig() },
    files: { "pgkit.yaml": text },
  });
}

test("pgkit manifests --diff: status 40 while the cluster differs, 0 when it is as it says", async () => {
  const before = await diff(config());
  expect(before).toMatchObject({
    status: 40,
    stdout: expect.stringContaining("+ CronJob databases/pgkit-prune-a is not there"),
  });
  for (const manifest of manifests) api.put(manifest);
  expect(await diff(config())).toMatchObject({ status: 0, stdout: "the cluster is as the manifests say\n" });

  const changed = await diff(config("0 3 * * *"));
  expect(changed.status).toBe(40);
  expect(changed.stdout).toContain(
    "~ CronJob databases/pgkit-prune-a\n  spec.schedule\n    - 0 2 * * *\n    + 0 3 * * *\n",
  );

  const other = await diff(config().replace("{ a: {", "{ b: {"), "--json");
  expect(JSON.parse(other.stdout).differences).toContainEqual(
    expect.objectContaining({ action: "remove", kind: "CronJob", namespace: "databases", name: "pgkit-prune-a" }),
  );
});
