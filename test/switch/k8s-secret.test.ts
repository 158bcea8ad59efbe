import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openKube } from "../../src/kube/open.ts";
import type { Secret } from "../../src/kube/workloads.ts";
import type { ProgressEvent } from "../../src/lib/report.ts";
import { systemClock } from "../../src/lib/time.ts";
import { type SecretSwitchDeps, secretSwitcher } from "../../src/switch/k8s-secret.ts";
import type { EndpointAddress } from "../../src/switch/switcher.ts";
import { eventually } from "../support/eventually.ts";
import type { Rule } from "../support/kube-api/accounts.ts";
import type { Obj } from "../support/kube-api/objects.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";
import { switcherConformance } from "./conformance.ts";

const { signal } = new AbortController();
const password = "s3cr3t/pass word";
const from = { host: "postgresql-shared.databases", port: 5432, database: "litellm" };
const to = { host: "postgresql-litellm.databases", port: 5433, database: "litellm" };
const third = { host: "elsewhere", port: 5434, database: "litellm" };
const keys = { url: "DATABASE_URL" };

function urlOf({ host, port, database }: EndpointAddress): string {
  return `postgresql://litellm_user:${encodeURIComponent(password)}@${host}:${port}/${database}?sslmode=prefer`;
}

const base64 = (text: string) => Buffer.from(text).toString("base64");
const template = (by: object) => ({
  metadata: { labels: { app: "api" } },
  spec: { containers: [{ name: "main", ...by }] },
});
const byEnv = {
  env: [{ name: "DATABASE_URL", valueFrom: { secretKeyRef: { name: "litellm-db", key: "DATABASE_URL" } } }],
};

/** A namespace with the Secret, and one workload for each way in which it is read. */
function install(api: KubeApi, namespace: string, more: { metadata?: object; [field: string]: unknown } = {}): void {
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  const { metadata, ...rest } = more;
  const data = { DATABASE_URL: base64(urlOf(from)), OTHER: base64("stays") };
  api.put({
    apiVersion: "v1",
    kind: "Secret",
    data,
    ...rest,
    metadata: { name: "litellm-db", namespace, ...metadata },
  });
  const put = (kind: string, name: string, pod: object, spec: object = {}) =>
    api.put({
      ...{ apiVersion: kind === "CronJob" ? "batch/v1" : "apps/v1", kind, metadata: { name, namespace } },
      spec:
        kind === "CronJob"
          ? { jobTemplate: { spec: { template: pod } } }
          : { template: pod, selector: { matchLabels: { app: "api" } }, ...spec },
    });
  put("Deployment", "by-env", template(byEnv));
  put("Deployment", "by-env-from", template({ envFrom: [{ secretRef: { name: "litellm-db" } }] }));
  put("StatefulSet", "by-volume", {
    spec: { containers: [{ name: "main" }], volumes: [{ name: "db", secret: { secretName: "litellm-db" } }] },
  });
  const sources = [{ configMap: { name: "x" } }, { secret: { name: "litellm-db" } }];
  put("DaemonSet", "by-projection", {
    spec: { containers: [{ name: "main" }], volumes: [{ name: "all", projected: { sources } }] },
  });
  put("CronJob", "nightly", template(byEnv));
  put(
    "Deployment",
    "stranger",
    template({ env: [{ name: "A", valueFrom: { secretKeyRef: { name: "other", key: "a" } } }] }),
  );
}

interface Opened {
  namespace: string;
  told: ProgressEvent[];
  switcher: ReturnType<typeof secretSwitcher>;
  url(): string;
  restarted(): string[];
}

async function open(
  api: KubeApi,
  namespace: string,
  {
    rules,
    kubeseal,
    ...deps
  }: Partial<SecretSwitchDeps> & { rules?: Record<string, Rule[]>; kubeseal?: string[] } = {},
): Promise<Opened> {
  const told: ProgressEvent[] = [];
  const report = (event: ProgressEvent) => void told.push(event);
  const kubeconfig = await api.kubeconfig(`user-${namespace}`, rules);
  const kube = await openKube({ kubeconfig, env: {} }, { clock: systemClock, report, patienceMs: 3000 });
  const config = { namespace, name: "litellm-db", keys, kubeseal };
  const own = { kube, database: "litellm", clock: systemClock, report, fightMs: 30, rolloutMs: 3000, commitMs: 3000 };
  const at = (kind: string, name: string) => {
    const spec = api.read(kind, namespace, name)?.["spec"] as {
      template: { metadata?: { annotations?: Record<string, string> } };
    };
    return spec.template.metadata?.annotations?.["pgkit.dev/points-at"];
  };
  const all = [
    ["Deployment", "by-env"],
    ["Deployment", "by-env-from"],
    ["Deployment", "stranger"],
    ["StatefulSet", "by-volume"],
    ["DaemonSet", "by-projection"],
  ] as const;
  return {
    ...{ namespace, told, switcher: secretSwitcher(config, { ...own, ...deps }) },
    url: () =>
      Buffer.from(
        (api.read("Secret", namespace, "litellm-db") as Secret | undefined)?.data?.["DATABASE_URL"] ?? "",
        "base64",
      ).toString(),
    restarted: () => all.flatMap(([kind, name]) => (at(kind, name) === undefined ? [] : [`${name} ${at(kind, name)}`])),
  };
}

switcherConformance("secret", async () => {
  const api = await startKubeApi();
  install(api, "litellm");
  const { switcher, url } = await open(api, "litellm");
  return {
    ...{ switcher, from, to, third, secrets: [password, encodeURIComponent(password)] },
    async pointByHand(where) {
      api.change("Secret", "litellm", "litellm-db", (object) => {
        object["data"] = { ...(object["data"] as object), DATABASE_URL: base64(urlOf(where)) };
      });
    },
    content: async () => JSON.stringify(api.read("Secret", "litellm", "litellm-db")?.["data"]),
    reached: async () => Number(new URL(url()).port || 5432),
    remove: async () => api.remove("Secret", "litellm", "litellm-db"),
    [Symbol.asyncDispose]: () => api[Symbol.asyncDispose](),
  };
});

describe("a Secret in a cluster", () => {
  let api: KubeApi;
  let folder = "";
  beforeAll(async () => {
    api = await startKubeApi();
    folder = await mkdtemp(join(tmpdir(), "pgkit-gitops-"));
  });
  afterAll(async () => {
    await api[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  test("whatever reads it is restarted, and nothing else; then that is waited for", async () => {
    install(api, "rolls");
    const { switcher, url, restarted } = await open(api, "rolls");
    await switcher.point(from, to, signal);
    await switcher.settle?.(signal);
    const where = "postgresql-litellm.databases:5433/litellm";
    expect(restarted()).toEqual([
      `by-env ${where}`,
      `by-env-from ${where}`,
      `by-volume ${where}`,
      `by-projection ${where}`,
    ]);
    expect(url()).toBe(urlOf(to).replace(/:5432\b/, ""));
    expect(api.read("Secret", "rolls", "litellm-db")).toMatchObject({ data: { OTHER: base64("stays") } });
    const plan = await switcher.plan?.(from, signal);
    expect(plan?.does.join("\n")).toContain("restarts Deployment rolls/by-env, which reads it (env DATABASE_URL)");
    expect(plan?.does.join("\n")).toContain("leaves CronJob rolls/nightly to its next run");
  });

  test("a switch that was cut after the Secret is completed by the next one", async () => {
    install(api, "cut");
    const denied: Rule[] = [
      { apiGroups: ["*"], resources: ["*"], verbs: ["get", "list", "watch"] },
      { apiGroups: [""], resources: ["secrets"], verbs: ["patch"] },
    ];
    const first = await open(api, "cut", { rules: { cut: denied } });
    await expect(first.switcher.point(from, to, signal)).rejects.toMatchObject({
      code: "kube-denied",
      hint: expect.stringContaining("resources: [deployments], verbs: [patch], resourceNames: [by-env]"),
    });
    expect(first.restarted()).toEqual([]);
    const second = await open(api, "cut", {});
    await second.switcher.point(from, to, signal);
    expect(second.restarted()).toHaveLength(4);
  });

  test("a workload that never becomes ready is named, and where nothing else waits the Secret is pointed back", async () => {
    install(api, "stuck");
    const at = (workload: Obj) => JSON.stringify(workload).includes('"pgkit.dev/points-at":"postgresql-litellm');
    api.behaviour.rollout = (workload) => (workload.metadata.name === "by-env" && at(workload) ? "stuck" : "ready");
    await eventually(() =>
      expect(api.read("Deployment", "stuck", "by-env")?.["status"]).toMatchObject({ availableReplicas: 1 }),
    );
    const { switcher, url, restarted } = await open(api, "stuck", { waits: true, rolloutMs: 800 });
    await expect(switcher.point(from, to, signal)).rejects.toMatchObject({
      code: "switch-failed",
      message: expect.stringMatching(
        /^Deployment stuck\/by-env did not become ready: not within 0.8 s.*pointed back at postgresql-shared/,
      ),
    });
    expect(new URL(url()).hostname).toBe(from.host);
    expect(restarted()[0]).toBe("by-env postgresql-shared.databases:5432/litellm");
    const moving = await open(api, "stuck", { rolloutMs: 800 });
    await moving.switcher.point(from, to, signal);
    await expect(moving.switcher.settle?.(signal)).rejects.toMatchObject({ code: "not-ready" });
    api.behaviour.rollout = () => "ready";
  });

  test("a change of somebody else between reading and writing is kept", async () => {
    install(api, "races");
    const { switcher, url } = await open(api, "races");
    let isFirst = true;
    const push = api.requests.push.bind(api.requests);
    api.requests.push = (...asked) => {
      if (isFirst && asked[0]?.startsWith("patch secrets") === true) {
        isFirst = false;
        api.change("Secret", "races", "litellm-db", (object) => {
          object["data"] = { ...(object["data"] as object), OTHER: base64("changed") };
        });
      }
      return push(...asked);
    };
    await switcher.point(from, to, signal);
    api.requests.push = push;
    expect(isFirst).toBe(false);
    expect(new URL(url()).hostname).toBe(to.host);
    expect(api.read("Secret", "races", "litellm-db")).toMatchObject({ data: { OTHER: base64("changed") } });
  });

  test("somebody who points it elsewhere between reading and writing is not overwritten", async () => {
    install(api, "overtaken");
    const { switcher, url, restarted } = await open(api, "overtaken");
    const push = api.requests.push.bind(api.requests);
    api.requests.push = (...asked) => {
      if (asked[0]?.startsWith("patch secrets overtaken/") === true) {
        api.change("Secret", "overtaken", "litellm-db", (object) => {
          object["data"] = { DATABASE_URL: base64(urlOf(third)) };
        });
      }
      return push(...asked);
    };
    await expect(switcher.point(from, to, signal)).rejects.toMatchObject({ code: "switch-conflict" });
    api.requests.push = push;
    expect([url(), restarted()]).toEqual([urlOf(third), []]);
  });

  test.each([
    [
      "argocd",
      { annotations: { "argocd.argoproj.io/tracking-id": "litellm:/Secret:own/litellm-db" } },
      "ArgoCD application litellm",
    ],
    ["argocd-label", { labels: { "argocd.argoproj.io/instance": "litellm" } }, "ArgoCD application litellm"],
    [
      "flux",
      { labels: { "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux" } },
      "Flux Kustomization flux/apps",
    ],
    [
      "helm",
      { labels: { "app.kubernetes.io/managed-by": "Helm" }, annotations: { "meta.helm.sh/release-name": "litellm" } },
      "Helm release own-helm/litellm",
    ],
    [
      "sealed",
      {
        ownerReferences: [
          { apiVersion: "bitnami.com/v1alpha1", kind: "SealedSecret", name: "litellm-db", uid: "1", controller: true },
        ],
      },
      "SealedSecret own-sealed/litellm-db",
    ],
    [
      "external",
      {
        ownerReferences: [
          { apiVersion: "external-secrets.io/v1", kind: "ExternalSecret", name: "db", uid: "1", controller: true },
        ],
      },
      "ExternalSecret own-external/db",
    ],
    [
      "operator",
      {
        ownerReferences: [{ apiVersion: "acme.example/v1", kind: "Database", name: "db", uid: "1", controller: true }],
      },
      "Database own-operator/db",
    ],
  ])("what %s owns is not changed, and it is said what to commit", async (name, metadata, who) => {
    const namespace = `own-${name}`;
    install(api, namespace, { metadata });
    const { switcher, url, restarted } = await open(api, namespace);
    const plan = await switcher.plan?.(to, signal);
    expect(plan?.refusals).toMatchObject([
      { message: expect.stringContaining(`belongs to ${who}`), hint: expect.stringMatching(/commit|change|values/) },
    ]);
    await expect(switcher.point(from, to, signal)).rejects.toMatchObject({
      code: "switch-failed",
      message: expect.stringContaining(who),
    });
    expect([url(), restarted()]).toEqual([urlOf(from), []]);
    const overriding = await open(api, namespace, { overrideGitops: true });
    expect((await overriding.switcher.plan?.(to, signal))?.refusals).toEqual([]);
    expect((await overriding.switcher.plan?.(to, signal))?.warnings).toMatchObject([
      { message: expect.stringContaining(who) },
    ]);
    await overriding.switcher.point(from, to, signal);
    expect(new URL(overriding.url()).hostname).toBe(to.host);
  });

  test("with a folder for Git a patch of the changed key is written for nobody else, and the commit is waited for", async () => {
    install(api, "git", {
      metadata: { annotations: { "argocd.argoproj.io/tracking-id": "litellm:/Secret:git/litellm-db" } },
    });
    const out = join(folder, "out");
    const { switcher, restarted } = await open(api, "git", { gitopsOut: out });
    expect(await switcher.plan?.(to, signal)).toMatchObject({
      refusals: [],
      warnings: [{ hint: expect.stringContaining("--max-block") }],
    });
    const pointing = switcher.point(from, to, signal);
    const patch = await eventually(async () =>
      JSON.parse(await readFile(join(out, "git-litellm-db", "secret-patch.yaml"), "utf8")),
    );
    expect(Object.keys(patch.data)).toEqual(["DATABASE_URL"]);
    expect((await stat(out)).mode & 0o777).toBe(0o700);
    expect((await stat(join(out, "git-litellm-db", "secret-patch.yaml"))).mode & 0o777).toBe(0o600);
    expect(await readdir(join(out, "git-litellm-db"))).toEqual(["kustomization.yaml", "secret-patch.yaml"]);
    expect(restarted()).toEqual([]);
    api.change(
      "Secret",
      "git",
      "litellm-db",
      (object) => Object.assign(object["data"] as object, patch.data),
      "argocd-controller",
    );
    await pointing;
    expect(restarted()).toHaveLength(4);
  });

  test("a commit that never comes ends at its deadline", async () => {
    install(api, "no-commit", { metadata: { labels: { "argocd.argoproj.io/instance": "litellm" } } });
    const { switcher } = await open(api, "no-commit", { gitopsOut: folder, commitMs: 300 });
    await expect(switcher.point(from, to, signal)).rejects.toMatchObject({
      code: "switch-failed",
      hint: expect.stringContaining("commit what is in"),
    });
  });

  test("a SealedSecret is sealed as a whole by kubeseal, which gets it on its input", async () => {
    const ownerReferences = [
      { apiVersion: "bitnami.com/v1alpha1", kind: "SealedSecret", name: "litellm-db", uid: "1", controller: true },
    ];
    install(api, "seals", { metadata: { ownerReferences } });
    const kubeseal = join(folder, "kubeseal");
    await writeFile(kubeseal, '#!/bin/sh\necho "kind: SealedSecret # $# $(wc -c | tr -d " ")"\n');
    await chmod(kubeseal, 0o755);
    const { switcher } = await open(api, "seals", {
      gitopsOut: folder,
      commitMs: 300,
      kubeseal: [kubeseal, "--format", "yaml"],
    });
    expect((await switcher.plan?.(to, signal))?.refusals).toEqual([]);
    await expect(switcher.point(from, to, signal)).rejects.toMatchObject({ code: "switch-failed" });
    const text = await readFile(join(folder, "seals-litellm-db", "sealed-secret.yaml"), "utf8");
    expect(text).toMatch(/^kind: SealedSecret # 2 \d{3}\n$/);
  });

  test("a controller that puts the value back is noticed and named, and nothing is fought", async () => {
    install(api, "fights");
    const stop = api.onChange((object, type) => {
      if (type !== "MODIFIED" || object.metadata.namespace !== "fights" || object.kind !== "Secret") return;
      const { data } = object as unknown as Secret;
      if (data?.["DATABASE_URL"] === base64(urlOf(from))) return;
      setImmediate(() =>
        api.change(
          "Secret",
          "fights",
          "litellm-db",
          (now) => Object.assign(now["data"] as object, { DATABASE_URL: base64(urlOf(from)) }),
          "secret-syncer",
        ),
      );
    });
    const { switcher, restarted } = await open(api, "fights", { fightMs: 200 });
    await expect(switcher.point(from, to, signal)).rejects.toMatchObject({
      code: "switch-conflict",
      message: expect.stringMatching(/secret-syncer has put it back to postgresql-shared.*two controllers fight/),
    });
    expect(restarted()).toEqual([]);
    stop();
  });

  test("one that puts it back later is noticed when the workloads are waited for", async () => {
    install(api, "fights-late");
    const { switcher } = await open(api, "fights-late");
    await switcher.point(from, to, signal);
    api.change(
      "Secret",
      "fights-late",
      "litellm-db",
      (now) => Object.assign(now["data"] as object, { DATABASE_URL: base64(urlOf(from)) }),
      "secret-syncer",
    );
    await expect(switcher.settle?.(signal)).rejects.toMatchObject({
      code: "switch-conflict",
      message: expect.stringContaining("secret-syncer"),
    });
  });

  test("an immutable Secret is refused before anything is changed", async () => {
    install(api, "immutable", { immutable: true });
    const { switcher, url, restarted } = await open(api, "immutable");
    expect((await switcher.plan?.(to, signal))?.refusals).toMatchObject([
      { message: "Secret immutable/litellm-db is immutable: nobody can change it" },
    ]);
    await expect(switcher.point(from, to, signal)).rejects.toMatchObject({
      code: "switch-failed",
      hint: expect.stringContaining("another name"),
    });
    expect([url(), restarted()]).toEqual([urlOf(from), []]);
  });

  test.each([
    ["get", "secrets", [{ apiGroups: ["*"], resources: ["*"], verbs: ["list", "watch", "patch"] }]],
    ["patch", "secrets", [{ apiGroups: ["*"], resources: ["*"], verbs: ["get", "list", "watch"] }]],
    ["list", "deployments", [{ apiGroups: [""], resources: ["*"], verbs: ["*"] }]],
  ])("an account that may not %s %s is told its rule", async (verb, resource, rules) => {
    const namespace = `poor-${verb}`;
    install(api, namespace);
    const { switcher } = await open(api, namespace, { rules: { [namespace]: rules } });
    await expect(switcher.point(from, to, signal)).rejects.toMatchObject({
      code: "kube-denied",
      hint: expect.stringContaining(`resources: [${resource}], verbs: [${verb}]`),
    });
  });

  test("a key that is not there is told with those that are", async () => {
    install(api, "no-key", { data: { PASSWORD: base64("x") } });
    const { switcher } = await open(api, "no-key");
    await expect(switcher.current(signal)).rejects.toMatchObject({ code: "config", hint: "it has: PASSWORD" });
  });

  test("separate keys are changed together", async () => {
    install(api, "parts", { data: { HOST: base64(from.host), PORT: base64("5432"), NAME: base64("litellm") } });
    const kube = await openKube(
      { kubeconfig: await api.kubeconfig(), env: {} },
      { clock: systemClock, report: () => undefined },
    );
    const config = { namespace: "parts", name: "litellm-db", keys: { host: "HOST", port: "PORT", database: "NAME" } };
    const switcher = secretSwitcher(config, {
      kube,
      database: "litellm",
      clock: systemClock,
      report: () => undefined,
      fightMs: 10,
    });
    await switcher.point(from, to, signal);
    expect(await switcher.current(signal)).toMatchObject(to);
    expect(api.requests.filter((each) => each === "patch secrets parts/litellm-db")).toHaveLength(1);
  });
});
