import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import type { Config } from "../../src/cli/config.ts";
import { printConfig, run } from "./run.ts";

const project = join(import.meta.dirname, "..", "..");
const examples = join(project, "docs", "examples");
const read = (...path: string[]) => readFileSync(join(project, ...path), "utf8");

/** What pgkit makes of a file; the paths in it need not be here. */
async function load(yaml: string, env: Record<string, string> = {}) {
  const files: Record<string, string> = yaml === "" ? {} : { "pgkit.yaml": yaml };
  const ran = await run(["print-config", "--json"], { files, env, commands: [printConfig] });
  expect(ran, ran.stderr).toMatchObject({ status: 0, stderr: "" });
  const config: Pick<Config, "repositories"> & { instances: Record<string, { retention: { logical: object } }> } =
    JSON.parse(ran.stdout);
  return config;
}

test.each(readdirSync(examples).filter((name) => name.endsWith(".yaml")))("docs/examples/%s loads", async (name) => {
  const config = await load(read("docs", "examples", name));
  expect(Object.keys(config.instances)).not.toEqual(["default"]);
});

test("docs/examples/environment.env is all that one host needs", async () => {
  const lines = read("docs", "examples", "environment.env")
    .split("\n")
    .filter((line) => /^\w+=/.test(line));
  const env = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
  const config = await load("", env);
  expect(config.repositories).toMatchObject([{ url: "file:///backups" }]);
  expect(config.repositories[0]?.encryption.recipients).toHaveLength(1);
});

test("the configuration in the README loads", async () => {
  const [, yaml = ""] = /```yaml\n([\s\S]*?)```/.exec(read("README.md")) ?? [];
  expect(Object.keys((await load(yaml)).instances)).toEqual(["shared", "litellm"]);
});

interface Manifest {
  kind: string;
  metadata: { name: string; namespace: string };
  data: Record<string, string>;
  stringData: Record<string, string>;
  spec: {
    concurrencyPolicy: string;
    startingDeadlineSeconds: number;
    jobTemplate: { spec: { template: { spec: PodSpec } } };
  };
}

interface PodSpec {
  automountServiceAccountToken: boolean;
  securityContext: object;
  volumes: { name: string; configMap?: { name: string }; emptyDir?: object }[];
  containers: {
    args: string[];
    envFrom: { secretRef: { name: string } }[];
    env: { name: string; value: string }[];
    securityContext: object;
    resources: { limits: { memory: string } };
    volumeMounts: { name: string; mountPath: string }[];
  }[];
}

test("the CronJob runs under restricted pod security, and what it names is in the file", async () => {
  const manifests: Manifest[] = parseAllDocuments(read("k8s", "cronjob.yaml")).map((document) => document.toJS());
  const of = (kind: string) => {
    const found = manifests.find((manifest) => manifest.kind === kind);
    if (found === undefined) throw new Error(`k8s/cronjob.yaml has no ${kind}`);
    return found;
  };
  const [config, secret, cronJob] = [of("ConfigMap"), of("Secret"), of("CronJob")];
  expect(new Set(manifests.map(({ metadata }) => metadata.namespace)).size).toBe(1);
  const loaded = await load(config.data["pgkit.yaml"] ?? "");
  expect(Object.values(loaded.instances)[0]?.retention.logical).not.toEqual({});
  const asked = /env: (\w+)/.exec(config.data["pgkit.yaml"] ?? "")?.[1] ?? "";
  expect(Object.keys(secret.stringData)).toContain(asked);

  expect(cronJob.spec).toMatchObject({ concurrencyPolicy: "Forbid", startingDeadlineSeconds: expect.any(Number) });
  const pod = cronJob.spec.jobTemplate.spec.template.spec;
  expect(pod.automountServiceAccountToken).toBe(false);
  expect(pod.securityContext).toMatchObject({
    runAsNonRoot: true,
    runAsUser: 65532,
    seccompProfile: { type: "RuntimeDefault" },
  });
  expect(pod.volumes.find(({ configMap }) => configMap)?.configMap?.name).toBe(config.metadata.name);
  for (const container of pod.containers) {
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    expect(container.resources.limits.memory).toBe("256Mi");
    expect(container.envFrom.map(({ secretRef }) => secretRef.name)).toEqual([secret.metadata.name]);
    const mounts = new Map(container.volumeMounts.map(({ name, mountPath }) => [mountPath, name]));
    expect([...mounts.keys()].sort()).toEqual(["/etc/pgkit", "/scratch"]);
    expect(pod.volumes.find(({ name }) => name === mounts.get("/scratch"))?.emptyDir).toBeDefined();
  }
});
