import { readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import type { Config } from "../../src/cli/config.ts";
import type { Manifest } from "../../src/manifests/request.ts";
import { printConfig, run } from "../cli/run.ts";
import { schemaProblems } from "./schema.ts";
import {
  type Container,
  documents,
  kustomized,
  makeRoot,
  overlays,
  type PodSpec,
  podsOf,
  project,
  read,
} from "./support.ts";

const built = new Map<string, Manifest[]>();

beforeAll(async () => {
  makeRoot();
  for (const overlay of overlays) built.set(overlay, await kustomized(join("k8s", "overlays", overlay)));
}, 900_000);

function of(
  overlay: string,
  kind: string,
  name?: string,
): Manifest & Record<"data" | "stringData", Record<string, string>> {
  const found = built
    .get(overlay)
    ?.find((each) => each.kind === kind && (name === undefined || each.metadata.name === name));
  if (found === undefined) throw new Error(`${overlay} has no ${kind} ${name}`);
  return found as never;
}

async function configOf(overlay: string) {
  const text = of(overlay, "ConfigMap").data["pgkit.yaml"] ?? "";
  const ran = await run(["print-config", "--json"], { files: { "pgkit.yaml": text }, commands: [printConfig] });
  expect(ran, ran.stderr).toMatchObject({ status: 0 });
  const config: Omit<Config, "instances"> & {
    instances: Record<string, { schedule: Record<string, string>; passwordFrom: { variable: string } }>;
  } = JSON.parse(ran.stdout);
  return { text, config };
}

/** What the pod security standard "restricted" asks for, and besides a read-only root and no token. */
function expectRestricted(pod: PodSpec, what: string): void {
  expect(pod.hostNetwork, what).toBeUndefined();
  expect(pod.automountServiceAccountToken, what).toBe(false);
  expect(pod.securityContext, what).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
  for (const container of [...(pod.initContainers ?? []), ...pod.containers]) expectLockedIn(container, what);
  for (const volume of pod.volumes ?? []) {
    const [source] = Object.keys(volume).filter((key) => key !== "name");
    expect(["configMap", "secret", "emptyDir", "persistentVolumeClaim"], `${what}: ${volume.name}`).toContain(source);
    if (source === "emptyDir") expect(volume["emptyDir"]).toHaveProperty("sizeLimit");
  }
}

function expectLockedIn({ securityContext, resources }: Container, what: string): void {
  expect(securityContext, what).toMatchObject({
    ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
    capabilities: { drop: ["ALL"] },
  });
  expect(resources?.limits?.memory, what).toMatch(/^(128|256)Mi$/);
}

describe.each(overlays)("the overlay %s", (overlay) => {
  test("is known to Kubernetes' schemas, field by field", async () => {
    for (const manifest of built.get(overlay) ?? []) {
      expect(await schemaProblems(manifest), `${manifest.kind} ${manifest.metadata.name}`).toEqual([]);
    }
  });

  test("has Pods that pod security `restricted` lets in, and that hold at 256 MiB", () => {
    const pods = podsOf(built.get(overlay) ?? []);
    expect([...pods.keys()].sort()).toEqual(
      ["base", "check", "logical", "prune", "stream", "verify"].map((kind) => `pgkit-${kind}-shared`),
    );
    for (const [name, pod] of pods) expectRestricted(pod, name);
  });

  test("has two files to edit: the ConfigMap, whose configuration loads, and the Secret", async () => {
    const folder = join("k8s", "overlays", overlay);
    const marked = readdirSync(join(project, folder)).filter((name) => read(folder, name).includes("# EDIT:"));
    expect(marked.sort()).toEqual(["configmap.yaml", "secret.yaml"]);
    const [config] = documents(read(folder, "configmap.yaml"));
    expect(of(overlay, "ConfigMap")["data"]).toEqual(config?.["data"]);
    expect(Object.keys((await configOf(overlay)).config.instances)).toEqual(["shared"]);
  });

  test("runs each CronJob at the time that its configuration calls the schedule", async () => {
    const { config } = await configOf(overlay);
    const { timeZone, graceMs: _, ...schedule } = config.instances["shared"]?.schedule ?? {};
    for (const [kind, cron] of Object.entries(schedule)) {
      expect(of(overlay, "CronJob", `pgkit-${kind}-shared`)["spec"], kind).toMatchObject({
        ...{ schedule: cron, timeZone, concurrencyPolicy: "Forbid", startingDeadlineSeconds: expect.any(Number) },
        jobTemplate: { spec: { backoffLimit: expect.any(Number), activeDeadlineSeconds: expect.any(Number) } },
      });
    }
    expect(Object.keys(schedule).length).toBe(5);
  });

  test("takes the image from the ConfigMap, and starts the streamer anew when that changes", async () => {
    const { text } = await configOf(overlay);
    const { image } = of(overlay, "ConfigMap").data;
    const images = [...podsOf(built.get(overlay) ?? []).values()].flatMap(({ containers }) =>
      containers.map((each) => each.image),
    );
    expect(new Set(images)).toEqual(new Set([image]));
    const { spec } = of(overlay, "StatefulSet");
    expect(spec).toMatchObject({ template: { metadata: { annotations: { "pgkit/config": text } } } });
  });

  test("has in the Secret every variable that a Pod must have", async () => {
    const { config } = await configOf(overlay);
    const held = Object.keys(of(overlay, "Secret").stringData);
    expect(held).toContain(config.instances["shared"]?.passwordFrom.variable);
    for (const [name, { containers }] of podsOf(built.get(overlay) ?? [])) {
      const asked = containers.flatMap(({ env = [] }) => env.flatMap(({ valueFrom }) => valueFrom?.secretKeyRef ?? []));
      for (const { key, name: secret, optional } of asked) {
        expect(secret, name).toBe("pgkit");
        if (optional !== true) expect(held, name).toContain(key);
      }
      // What is there is used by somebody.
      if (name === "pgkit-check-shared") for (const key of held) expect(asked.map((each) => each.key)).toContain(key);
    }
  });
});

test("s3-irsa and azure-workload-identity give every ServiceAccount the identity of the ConfigMap, and need no key", () => {
  for (const [overlay, annotation, key] of [
    ["s3-irsa", "eks.amazonaws.com/role-arn", "roleArn"],
    ["azure-workload-identity", "azure.workload.identity/client-id", "clientId"],
  ] as const) {
    const accounts = (built.get(overlay) ?? []).filter(({ kind }) => kind === "ServiceAccount");
    expect(accounts).toHaveLength(6);
    for (const { metadata } of accounts)
      expect(metadata.annotations).toEqual({ [annotation]: of(overlay, "ConfigMap").data[key] });
    expect(Object.keys(of(overlay, "Secret").stringData)).toEqual(["SHARED_PASSWORD"]);
  }
  const azure = (built.get("azure-workload-identity") ?? []).filter(({ kind }) =>
    ["CronJob", "StatefulSet"].includes(kind),
  );
  expect(JSON.stringify(azure).match(/"azure.workload.identity\/use":"true"/g)).toHaveLength(azure.length);
});

test("folder-pvc mounts the claim in every Pod, where the repository is, and lets none out to a store", async () => {
  const { config } = await configOf("folder-pvc");
  expect(config.repositories.map(({ url }) => url)).toEqual(["file:///backups"]);
  for (const [name, { volumes = [], containers }] of podsOf(built.get("folder-pvc") ?? [])) {
    const mount = containers[0]?.volumeMounts?.find(({ mountPath }) => mountPath === "/backups");
    const volume = volumes.find((each) => each.name === mount?.name);
    expect(volume?.["persistentVolumeClaim"], name).toEqual({ claimName: "pgkit-repository" });
  }
  const { size, storageClass } = of("folder-pvc", "ConfigMap").data;
  expect(of("folder-pvc", "PersistentVolumeClaim")["spec"]).toMatchObject({
    storageClassName: storageClass,
    resources: { requests: { storage: size } },
  });
  expect(JSON.stringify(of("folder-pvc", "NetworkPolicy", "pgkit"))).not.toContain("443");
});

test("the server's values and patch for --method archive lay pgkit where it runs, as the server's user", async () => {
  interface Values {
    primary: {
      initContainers: Container[];
      extraVolumes: PodSpec["volumes"];
      extraVolumeMounts: Container["volumeMounts"];
    };
  }
  const { primary }: Values = parse(read("k8s", "server", "bitnami-archive.yaml"));
  const [patch] = documents(read("k8s", "server", "postgres-archive.yaml")) as unknown as {
    spec: { template: { spec: PodSpec } };
  }[];
  const official = patch?.spec.template.spec;
  const server = { name: "server", image: "i", volumeMounts: primary.extraVolumeMounts };
  const bitnami = { containers: [server], initContainers: primary.initContainers, volumes: primary.extraVolumes };
  for (const [spec, uid] of [
    [bitnami, 1001],
    [official, 999],
  ] as const) {
    const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec };
    const problems = (await schemaProblems(pod)).filter((each) => !each.includes("restartPolicy"));
    expect(problems).toEqual([]);
    const [init] = spec?.initContainers ?? [];
    expect(init?.securityContext).toMatchObject({ runAsUser: uid, runAsNonRoot: true });
    expectLockedIn(init as Container, String(uid));
    const from = init?.volumeMounts?.[0];
    expect(init?.command).toEqual(["cp", "-R", "/opt/pgkit/.", `${from?.mountPath}/`]);
    const to = spec?.containers[0]?.volumeMounts?.find(({ name }) => name === from?.name);
    expect(to).toMatchObject({ mountPath: "/opt/pgkit", readOnly: true });
  }
});

test("the Application of ArgoCD is one, and leads to an overlay that is here", async () => {
  const [application] = documents(read("k8s", "argocd", "application.yaml"));
  if (application === undefined) throw new Error("there is no Application");
  expect(await schemaProblems(application)).toEqual([]);
  const { source } = application["spec"] as { source: { path: string } };
  expect(overlays.map((name) => `k8s/overlays/${name}`)).toContain(source.path);
});
