import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findSync, isPaused, pauseSync, resumeSync } from "../../src/incluster/gitops.ts";
import type { Kube } from "../../src/kube/kube.ts";
import { openKube } from "../../src/kube/open.ts";
import type { Workload } from "../../src/kube/workloads.ts";
import { systemClock } from "../../src/lib/time.ts";
import { everything } from "../support/kube-api/accounts.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";

const { signal } = new AbortController();
const deps = { clock: systemClock, report: () => undefined };
let api: KubeApi;
let kube: Kube;

beforeAll(async () => {
  api = await startKubeApi();
  for (const name of ["argocd", "flux-system", "databases"]) {
    api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
  }
  const flux = { namespaced: true, apiVersion: "kustomize.toolkit.fluxcd.io/v1", group: "kustomize.toolkit.fluxcd.io" };
  api.install({ ...flux, kind: "Kustomization", plural: "kustomizations" });
  kube = await openKube({ kubeconfig: await api.kubeconfig(), env: {} }, deps);
});
afterAll(() => api[Symbol.asyncDispose]());

const server = (metadata: Partial<Workload["metadata"]>): Workload => ({
  ...{ apiVersion: "apps/v1", kind: "StatefulSet" },
  metadata: { name: "pg", namespace: "databases", ...metadata },
});
const trackedBy = (app: string) => ({
  annotations: { "argocd.argoproj.io/tracking-id": `${app}:apps/StatefulSet:databases/pg` },
});
const application = (name: string, automated: object | undefined, metadata: object = {}) => ({
  ...{ apiVersion: "argoproj.io/v1alpha1", kind: "Application", metadata: { name, namespace: "argocd", ...metadata } },
  spec: automated === undefined ? {} : { syncPolicy: { automated } },
});
const fluxLabels = {
  "kustomize.toolkit.fluxcd.io/name": "databases",
  "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
};

describe("what would scale a StatefulSet up again", () => {
  test("is nobody, where nobody is written on it, or who does not act by itself", async () => {
    expect(await findSync(kube, server({}), signal)).toEqual({ type: "none" });
    const helm = server({ annotations: { "meta.helm.sh/release-name": "pg" } });
    expect(await findSync(kube, helm, signal)).toMatchObject({ type: "none", who: "Helm release databases/pg" });
    api.put(application("by-hand", undefined));
    expect(await findSync(kube, server(trackedBy("by-hand")), signal)).toMatchObject({ type: "none" });
  });

  test("is Flux: suspended and resumed; one that is suspended already is left so", async () => {
    const ref = { apiVersion: "kustomize.toolkit.fluxcd.io/v1", kind: "Kustomization" };
    api.put({ ...ref, metadata: { name: "databases", namespace: "flux-system" }, spec: { path: "./x" } });
    const sync = await findSync(kube, server({ labels: fluxLabels }), signal);
    expect(sync).toMatchObject({ type: "flux" });
    await pauseSync(kube, sync, systemClock, signal);
    expect(await isPaused(kube, sync, signal)).toBe(true);
    expect(await findSync(kube, server({ labels: fluxLabels }), signal)).toMatchObject({ type: "none" });
    await resumeSync(kube, sync, signal);
    expect(api.read("Kustomization", "flux-system", "databases")).toMatchObject({
      spec: { path: "./x", suspend: false },
    });
  });

  test("is ArgoCD, whose automation somebody has set anew meanwhile: that stays", async () => {
    api.put(application("app", { selfHeal: true }));
    const sync = await findSync(kube, server(trackedBy("app")), signal);
    await pauseSync(kube, sync, systemClock, signal);
    await pauseSync(kube, sync, systemClock, signal);
    api.change("Application", "argocd", "app", (object) => {
      object["spec"] = { syncPolicy: { automated: { prune: true } } };
    });
    await resumeSync(kube, sync, signal);
    expect(api.read("Application", "argocd", "app")).toMatchObject({
      spec: { syncPolicy: { automated: { prune: true } } },
    });
  });

  test.each([
    [
      "an operator",
      server({ ownerReferences: [{ apiVersion: "x/v1", kind: "Cluster", name: "pg", uid: "1", controller: true }] }),
      "pause Cluster",
    ],
    ["an application that is not there", server(trackedBy("gone")), "argocd app set gone --sync-policy none"],
    ["an application of an application", server(trackedBy("child")), "argocd app set child"],
    [
      "Flux that is not there",
      server({ labels: { ...fluxLabels, "kustomize.toolkit.fluxcd.io/name": "gone" } }),
      "flux suspend kustomization gone",
    ],
  ])("and cannot be paused: %s", async (_, found, instruction) => {
    if (api.read("Application", "argocd", "child") === undefined) {
      api.put(application("child", { selfHeal: true }, trackedBy("root")));
    }
    const sync = await findSync(kube, found, signal);
    expect(sync).toMatchObject({ type: "unknown", instruction: expect.stringContaining(instruction) });
  });

  test("and may not be paused by this account, which is said", async () => {
    api.put(application("locked", { selfHeal: true }));
    const rules = [{ apiGroups: ["argoproj.io"], resources: ["applications"], verbs: ["get"] }];
    const kubeconfig = await api.kubeconfig("reader", { argocd: rules, databases: everything });
    const reader = await openKube({ kubeconfig, env: {} }, deps);
    const because = expect.stringContaining("may not patch the Application argocd/locked");
    expect(await findSync(reader, server(trackedBy("locked")), signal)).toMatchObject({ type: "unknown", because });
  });
});
