import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Manifest } from "../../src/manifests/request.ts";
import { run } from "../cli/run.ts";
import { schemaProblems } from "./schema.ts";
import { podsOf, project, read, rendered } from "./support.ts";

const everything = read("test", "manifests", "golden", "everything.config.yaml");
const certificates = { "ca.crt": "an authority\n", "rds.pem": "Amazon's\n" };
const { text, manifests } = await rendered(everything, certificates);

function named(kind: string, name: string, namespace = "backups"): Manifest & { spec: unknown } {
  const found = manifests.find(
    ({ metadata, ...each }) =>
      each.kind === kind && metadata.name === name && (metadata.namespace ?? namespace) === namespace,
  );
  if (found === undefined) throw new Error(`${kind} ${namespace}/${name} is not rendered`);
  return found as never;
}

test("a configuration with everything renders what it did", async () => {
  await expect(text).toMatchFileSnapshot("golden/everything.yaml");
});

test("the same configuration renders the same", async () => {
  expect((await rendered(everything, certificates)).text).toBe(text);
});

test("Kubernetes' schemas know every field of every manifest", async () => {
  for (const manifest of manifests) {
    expect(await schemaProblems(manifest), `${manifest.kind} ${manifest.metadata.name}`).toEqual([]);
  }
});

test("the names of two objects of a kind differ, also of instances whose names Kubernetes does not take", async () => {
  const names = manifests.map(({ kind, metadata }) => `${kind} ${metadata.namespace} ${metadata.name}`);
  expect(names).toEqual([...new Set(names)]);
  const twins = ["a.b", "a_b", "A-b", "x".repeat(60), `${"x".repeat(60)}y`];
  const config = `kubernetes: { image: i }\nrepository: s3://b/p\ninstances:\n${twins.map((name) => `  ${name}: { url: "postgresql://u@h/d", schedule: { logical: "0 2 * * *" } }\n`).join("")}`;
  const jobs = (await rendered(config)).manifests
    .filter(({ kind }) => kind === "CronJob")
    .map(({ metadata }) => metadata.name);
  expect(new Set(jobs).size).toBe(twins.length);
  for (const name of jobs) expect(name).toMatch(/^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?$/);
});

test("a Pod has the secrets that its own job needs, and no other", () => {
  const pods = podsOf(manifests);
  const keys = (name: string) =>
    pods
      .get(name)
      ?.containers.flatMap(({ env = [] }) => env.flatMap(({ valueFrom }) => valueFrom?.secretKeyRef.key ?? []));
  const files = (name: string) =>
    pods
      .get(name)
      ?.volumes?.flatMap(
        ({ secret }) => (secret as { items: { key: string }[] } | undefined)?.items.map(({ key }) => key) ?? [],
      );
  const store = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "PGKIT_STORAGE_ACCOUNT_KEY",
    "PGKIT_STORAGE_SAS",
    "PGKIT_STORAGE_CONNECTION_STRING",
  ];
  expect(keys("pgkit-logical-external")).toEqual(["EXTERNAL_PASSWORD", ...store]);
  expect(keys("pgkit-prune-shared")).toEqual(store);
  expect(files("pgkit-prune-shared")).toEqual([]);
  expect(files("pgkit-logical-external")).toEqual([]);
  expect(files("pgkit-verify-shared")).toEqual(["age.key"]);
  const base = [...pods.keys()].find((name) => name.startsWith("pgkit-base-open-webui")) ?? "";
  expect(files(base)).toEqual(["open-webui"]);
});

test("a token of the API is only where a password is read by it, and reads that Secret alone", () => {
  const withToken = [...podsOf(manifests)]
    .filter(([, pod]) => pod.automountServiceAccountToken !== false)
    .map(([name]) => name);
  expect(withToken.sort()).toEqual([
    "pgkit-base-shared",
    "pgkit-check-shared",
    "pgkit-logical-shared",
    "pgkit-stream-shared",
  ]);
  const roles = manifests.filter(({ kind }) => kind === "Role");
  expect(roles.map(({ metadata }) => metadata.name).sort()).toEqual([
    "pgkit-base",
    "pgkit-check",
    "pgkit-logical",
    "pgkit-stream",
  ]);
  for (const role of roles) {
    expect(role.metadata.namespace).toBe("data");
    expect(role["rules"]).toEqual([
      { apiGroups: [""], resources: ["secrets"], resourceNames: ["postgresql-shared"], verbs: ["get"] },
    ]);
  }
  const accounts = manifests.filter(({ kind }) => kind === "ServiceAccount").map(({ metadata }) => metadata.name);
  for (const pod of podsOf(manifests).values()) expect(accounts).toContain(pod.serviceAccountName);
});

test("policies let out to servers and stores, by namespace, address or port, and to the API only who needs it", () => {
  const server = named("NetworkPolicy", "pgkit-server").spec as { egress: unknown };
  const inNamespace = (name: string) => ({
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": name } },
  });
  const tcp = (...ports: number[]) => ports.map((port) => ({ protocol: "TCP", port }));
  expect(server.egress).toEqual([
    { to: [{ ipBlock: { cidr: "10.0.0.7/32" } }], ports: tcp(5433) },
    { ports: tcp(5432) },
    { to: [inNamespace("backups")], ports: tcp(5432) },
    // Behind the Service the Pods have their own port.
    { to: [inNamespace("data")], ports: tcp(6432, 5432) },
  ]);
  const all = named("NetworkPolicy", "pgkit").spec as { egress: unknown[]; podSelector: object };
  expect(all.egress.slice(1)).toEqual([{ ports: tcp(443) }, { to: [inNamespace("rook-ceph")] }]);
  const api = named("NetworkPolicy", "pgkit-api").spec as { podSelector: { matchExpressions: { values: string[] }[] } };
  expect(api.podSelector.matchExpressions[0]?.values).toEqual(["logical", "base", "check", "stream"]);
});

test("k8s/base is what pgkit manifests makes of k8s/pgkit.yaml, and nothing else is in it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-base-"));
  try {
    const ran = await run(["manifests", "--config", join(project, "k8s", "pgkit.yaml"), "-o", folder]);
    expect(ran, ran.stderr).toMatchObject({ status: 0 });
    const names = (await readdir(folder)).sort();
    expect((await readdir(join(project, "k8s", "base"))).sort()).toEqual(names);
    for (const name of names) expect(read("k8s", "base", name), name).toBe(await readFile(join(folder, name), "utf8"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("-o replaces what it wrote before, removes what is rendered no more, and refuses a file of somebody else's", async () => {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-base-"));
  const config = (instance: string) =>
    `kubernetes: { image: i }\nrepository: s3://b/p\ninstances: { ${instance}: { url: "postgresql://u@h/d", schedule: { prune: "0 2 * * *" } } }`;
  const render = (instance: string) => run(["manifests", "-o", folder], { files: { "pgkit.yaml": config(instance) } });
  try {
    expect((await render("one")).status).toBe(0);
    await writeFile(join(folder, "mine.yaml"), "kind: Mine\n");
    expect((await render("two")).status).toBe(0);
    const names = await readdir(folder);
    expect(names).toContain("cronjob-pgkit-prune-two.yaml");
    expect(names).toContain("mine.yaml");
    expect(names).not.toContain("cronjob-pgkit-prune-one.yaml");
    await writeFile(join(folder, "cronjob-pgkit-prune-one.yaml"), "kind: Mine\n");
    const refused = await render("one");
    expect(refused).toMatchObject({
      status: 21,
      stderr: expect.stringContaining("was not written by pgkit manifests"),
    });
    expect(await readFile(join(folder, "cronjob-pgkit-prune-one.yaml"), "utf8")).toBe("kind: Mine\n");
    expect(await readdir(folder)).toContain("cronjob-pgkit-prune-two.yaml");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

const good = {
  kubernetes: "kubernetes: { image: i }",
  repository: "repository: s3://b/p",
  instance: 'instances: { a: { url: "postgresql://u@h/d", schedule: { logical: "0 2 * * *" } } }',
};

test.each<[string, Partial<typeof good> & { more?: string }, RegExp]>([
  [
    "a password in a URL",
    { instance: 'instances: { a: { url: "postgresql://u:geheim@h/d", schedule: { logical: "0 2 * * *" } } }' },
    /instances\.a\.url holds a secret/,
  ],
  [
    "a key of the store",
    { more: "storage: { secretAccessKey: geheim, accessKeyId: a }" },
    /storage\.secretAccessKey holds a secret/,
  ],
  ["no image", { kubernetes: "" }, /kubernetes\.image is missing/],
  ["a repository relative to the file", { repository: "repository: backups" }, /repository is relative/],
  ["no schedule", { instance: 'instances: { a: { url: "postgresql://u@h/d" } }' }, /no instance has a schedule/],
  [
    "a cron line of more than Kubernetes knows",
    { instance: 'instances: { a: { url: "postgresql://u@h/d", schedule: { logical: "0 2 L * *" } } }' },
    /'0 2 L \* \*', which Kubernetes does not read/,
  ],
  [
    "a certificate that is not beside it",
    { more: "storage: { caFile: /etc/pgkit/ca.crt }" },
    /there is no .*ca\.crt for the ConfigMap/,
  ],
  [
    "a certificate that no pod would have",
    { more: "storage: { caFile: /somewhere/ca.crt }" },
    /\/somewhere\/ca\.crt would not be in the pods/,
  ],
  [
    "an identity where the configuration is",
    { more: "encryption: { identityFile: /etc/pgkit/age.key }" },
    /cannot be mounted at \/etc\/pgkit/,
  ],
])("refused with what is wrong: %s", async (_, given, message) => {
  const config = Object.values({ ...good, ...given }).join("\n");
  const ran = await run(["manifests"], { files: { "pgkit.yaml": config } });
  expect(ran).toMatchObject({ status: 2, stdout: "", stderr: expect.stringMatching(message) });
  expect(ran.stderr).not.toContain("geheim");
});

test("refused where variables alone are the configuration: they mean nothing in a cluster", async () => {
  const ran = await run(["manifests"], { env: { PGHOST: "h" } });
  expect(ran).toMatchObject({ status: 2, stderr: expect.stringContaining("no configuration file") });
});
