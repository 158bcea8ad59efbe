import { afterEach, describe, expect, test } from "vitest";
import { restoreBeside } from "../../src/incluster/beside.ts";
import { findRestore, type RestoreJournal } from "../../src/incluster/journal.ts";
import { contextOf, finishRestore, resumeRestore, rollBackRestore, startRestore } from "../../src/incluster/restore.ts";
import type { Kube } from "../../src/kube/kube.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { eventually } from "../support/eventually.ts";
import type { Rule } from "../support/kube-api/accounts.ts";
import type { Obj } from "../support/kube-api/objects.ts";
import { type Cluster, factsFor, pgkitOn, reached, startCluster } from "./support.ts";

let cluster: Cluster;
afterEach(() => cluster[Symbol.asyncDispose]());

async function found() {
  const restore = await findRestore(cluster.repository, "shared");
  if (restore === undefined) throw new Error("no restore is recorded");
  return restore;
}

const restored = () => ({
  volume: { ...cluster.volume },
  replicas: cluster.replicas(),
  isUp: cluster.pod() !== undefined,
});
const asBefore = { volume: { data: "old", isWhole: true, aside: undefined }, replicas: 1, isUp: true };
const asRestored = { volume: { data: "new", isWhole: true, aside: "old" }, replicas: 1, isUp: true };

/** Every write of the cluster and of the journal, ended after the nth: nothing more happens then, as after SIGKILL. */
function killedAfter(nth: number): { kube: Kube; repository: Repository; count: () => number } {
  let count = 0;
  const write = async <T>(work: () => Promise<T>): Promise<T> => {
    count += 1;
    if (count > nth) throw new Error("killed");
    const result = await work();
    if (count >= nth) throw new Error("killed");
    return result;
  };
  const { kube, repository } = cluster;
  const { store } = repository;
  return {
    count: () => count,
    kube: {
      ...kube,
      create: (manifest, signal) => write(() => kube.create(manifest, signal)),
      patch: (ref, patch, signal) => write(() => kube.patch(ref, patch, signal)),
      delete: (ref, options, signal) => write(() => kube.delete(ref, options, signal)),
    },
    repository: {
      ...repository,
      store: { ...store, put: (key, body, options) => write(() => store.put(key, body, options)) },
    },
  };
}

describe("a restore in the cluster", () => {
  test("keeps the old data, and rolled back has it again; finished it is gone", async () => {
    cluster = await startCluster();
    const journal = await startRestore(cluster.facts, cluster.world());
    expect(journal.state).toBe("restored");
    expect(journal.steps.get("restore-volume")?.result).toMatchObject({
      reached,
      keptAt: "/bitnami/postgresql/before",
    });
    expect(restored()).toEqual(asRestored);
    await expect(startRestore(factsFor("2"), cluster.world())).rejects.toMatchObject({ code: "restore-refused" });
    expect((await rollBackRestore(await found(), cluster.world())).state).toBe("rolled-back");
    expect(restored()).toEqual(asBefore);
    expect(cluster.said()).toContain("is kept on volume data-pg-0 as /bitnami/postgresql/before.restored");
    await startRestore(factsFor("3"), cluster.world());
    expect((await finishRestore(await found(), cluster.world())).state).toBe("finished");
    expect(restored()).toEqual({ ...asRestored, volume: { data: "new", isWhole: true, aside: undefined } });
    expect(cluster.api.requests.filter((each) => each.startsWith("create jobs"))).toHaveLength(6);
  });

  test("killed anywhere is resumed to its end, and rolled back to its beginning", async () => {
    cluster = await startCluster();
    const whole = killedAfter(Number.POSITIVE_INFINITY);
    await startRestore(factsFor("0"), cluster.world(whole));
    await finishRestore(await found(), cluster.world());
    const all = whole.count();
    expect(all).toBeGreaterThan(15);
    for (let nth = 1; nth <= all; nth++) {
      const then = nth % 2 === 0 ? "resume" : "roll back";
      Object.assign(cluster.volume, { data: "old", aside: undefined, isWhole: true });
      const facts = { ...cluster.facts, id: `20261129T19${1000 + nth}Z-0001` };
      await startRestore(facts, cluster.world(killedAfter(nth))).catch(() => undefined);
      const restore = await found();
      expect(restore.journal.facts.id).toBe(facts.id);
      // Killed after its last record, there is nothing left to go on with.
      if (restore.journal.state === "restored" && then === "resume") break;
      const journal = await (then === "resume" ? resumeRestore : rollBackRestore)(restore, cluster.world());
      expect(restored(), `killed after write ${nth}, then ${then}`).toEqual(then === "resume" ? asRestored : asBefore);
      // So that the next may begin.
      await journal.append({ type: "state", state: "finished" });
    }
  });

  test("has one runner: of two that begin at once one gives way", async () => {
    cluster = await startCluster();
    const both = await Promise.allSettled([1, 2].map((pid) => startRestore(factsFor(`${pid}`), cluster.world())));
    expect(both.filter(({ status }) => status === "fulfilled").length).toBeLessThan(2);
    const lost = both.flatMap((each) => (each.status === "rejected" ? [each.reason.code] : []));
    expect(lost.every((code) => code === "locked" || code === "restore-refused")).toBe(true);
  });

  test("goes on in the next Pod where one was evicted", async () => {
    cluster = await startCluster();
    const { api, volume, repository } = cluster;
    let first: Obj | undefined;
    api.behaviour.program = async (run) => {
      if (first !== undefined) return pgkitOn(volume, repository)(run);
      first = run.pod;
      Object.assign(volume, { aside: "old", data: "half", isWhole: false });
      return new Promise((resolve) => run.signal.addEventListener("abort", () => resolve(137)));
    };
    const running = startRestore(cluster.facts, cluster.world());
    await eventually(() => expect(first).toBeDefined());
    api.controllers.evict("databases", first?.metadata.name ?? "");
    expect((await running).state).toBe("restored");
    expect(restored()).toEqual(asRestored);
    expect(cluster.said()).toContain("takes its place");
  });

  test("stops where somebody scales the server up under it, and goes on when that is over", async () => {
    cluster = await startCluster();
    const { api, volume, repository } = cluster;
    let ended = "";
    api.behaviour.program = async ({ signal }) => {
      api.change(
        "StatefulSet",
        "databases",
        "pg",
        (object) => Object.assign(object["spec"] as object, { replicas: 1 }),
        "keda",
      );
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      ended = String(signal.reason);
      return 143;
    };
    const stopped = startRestore(cluster.facts, cluster.world());
    await expect(stopped).rejects.toMatchObject({ code: "restore-stopped", message: expect.stringContaining("keda") });
    expect(ended).toBe("TERM");
    api.behaviour.program = pgkitOn(volume, repository);
    expect((await resumeRestore(await found(), cluster.world())).state).toBe("restored");
    expect(restored()).toEqual(asRestored);
  });

  test("says what holds a Pod that does not end, and is undone without a trace", async () => {
    cluster = await startCluster();
    const { api } = cluster;
    await eventually(() => expect(cluster.pod()).toBeDefined());
    api.controllers.hold();
    const stopped = startRestore(cluster.facts, cluster.world({ patience: { podMs: 200, startMs: 200 } }));
    await expect(stopped).rejects.toMatchObject({
      code: "restore-stopped",
      message: expect.stringContaining("told to end"),
    });
    api.controllers.release();
    await rollBackRestore(await found(), cluster.world());
    expect(restored()).toEqual(asBefore);
  });

  test("tells what the Job failed with, and makes it anew when it is run again", async () => {
    cluster = await startCluster();
    const { api, volume, repository } = cluster;
    api.behaviour.program = async ({ log }) => {
      const error = { code: "no-backup-for-target", message: "no base backup ends before it", hint: "take one" };
      log(JSON.stringify({ type: "error", error }));
      return 20;
    };
    const stopped = startRestore(cluster.facts, cluster.world());
    await expect(stopped).rejects.toMatchObject({ code: "restore-stopped", hint: expect.stringContaining("take one") });
    api.behaviour.program = pgkitOn(volume, repository);
    expect((await resumeRestore(await found(), cluster.world())).state).toBe("restored");
  });

  test("pauses ArgoCD meanwhile, and lets it go on as it was", async () => {
    cluster = await startCluster({ "argocd.argoproj.io/tracking-id": "pg:apps/StatefulSet:databases/pg" });
    const { api } = cluster;
    const automated = { prune: true, selfHeal: true };
    const app = { apiVersion: "argoproj.io/v1alpha1", kind: "Application" };
    const now = () => (api.read("Application", "argocd", "pg") as { spec?: { syncPolicy?: object } })?.spec?.syncPolicy;
    api.put({
      ...app,
      metadata: { name: "pg", namespace: "argocd" },
      spec: { syncPolicy: { automated, retry: { limit: 2 } } },
    });
    const program = pgkitOn(cluster.volume, cluster.repository);
    const seen: unknown[] = [];
    api.behaviour.program = (run) => {
      seen.push(now());
      return program(run);
    };
    await startRestore(cluster.facts, cluster.world());
    expect(seen[0]).toEqual({ retry: { limit: 2 } });
    expect(now()).toEqual({ automated, retry: { limit: 2 } });
    await rollBackRestore(await found(), cluster.world());
    expect(seen.at(-1)).toEqual({ retry: { limit: 2 } });
    expect(now()).toEqual({ automated, retry: { limit: 2 } });
  });

  test("is refused where ArgoCD cannot be paused, with what to type", async () => {
    cluster = await startCluster({ "argocd.argoproj.io/tracking-id": "pg:apps/StatefulSet:databases/pg" });
    const refused = startRestore(cluster.facts, cluster.world());
    const hint = expect.stringContaining("argocd app set pg --sync-policy none");
    await expect(refused).rejects.toMatchObject({ code: "restore-refused", hint });
    expect((await found()).journal.state).toBe("rolled-back");
    const journal = await startRestore(factsFor("2", { overrideGitops: true }), cluster.world());
    expect(journal.state).toBe("restored");
  });

  test("names every right that is missing at once, and changes nothing", async () => {
    cluster = await startCluster();
    const rules: Rule[] = [
      { apiGroups: ["apps"], resources: ["statefulsets"], verbs: ["get", "list", "watch"] },
      { apiGroups: [""], resources: ["pods", "persistentvolumeclaims"], verbs: ["get", "list", "watch"] },
      { apiGroups: ["batch"], resources: ["cronjobs", "jobs"], verbs: ["get", "list", "watch"] },
    ];
    const { openKube } = await import("../../src/kube/open.ts");
    const kubeconfig = await cluster.api.kubeconfig("person", { databases: rules });
    const world = cluster.world();
    const kube = await openKube({ kubeconfig, env: {} }, world);
    const refused: Promise<RestoreJournal> = startRestore(cluster.facts, { ...world, kube });
    await expect(refused).rejects.toMatchObject({
      code: "kube-denied",
      message: expect.stringContaining("patch statefulsets/scale, get pods/log, create jobs, delete jobs"),
      hint: expect.stringContaining("resources: [jobs], verbs: [create, delete]"),
    });
    expect(restored().volume.data).toBe("old");
    expect(cluster.replicas()).toBe(1);
  });

  test("with a snapshot restores over the old data, and rolled back has a volume made of the snapshot", async () => {
    cluster = await startCluster();
    const { api, volume } = cluster;
    const stopDriver = api.onChange((object, type) => {
      if (object.kind !== "VolumeSnapshot" || type !== "ADDED") return;
      const { name, namespace = "" } = object.metadata;
      const ref = { apiVersion: object.apiVersion, kind: object.kind, namespace, name };
      const ready = { merge: { status: { readyToUse: true } }, subresource: "status" } as const;
      void cluster.kube.patch(ref, ready, new AbortController().signal);
    });
    const facts = factsFor("4", { keepOld: "snapshot" });
    await startRestore(facts, cluster.world());
    stopDriver();
    expect(volume.data).toBe("new");
    const snapshot = `pgkit-before-${facts.id.toLowerCase()}`;
    expect(api.read("VolumeSnapshot", "databases", snapshot)).toMatchObject({
      spec: { source: { persistentVolumeClaimName: "data-pg-0" } },
    });
    const before = api.read("PersistentVolumeClaim", "databases", "data-pg-0")?.metadata.uid;
    await rollBackRestore(await found(), cluster.world());
    const claim = api.read("PersistentVolumeClaim", "databases", "data-pg-0");
    expect(claim?.metadata.uid).not.toBe(before);
    expect(claim).toMatchObject({
      spec: { dataSource: { kind: "VolumeSnapshot", name: snapshot }, resources: { requests: { storage: "20Gi" } } },
    });
    expect(cluster.replicas()).toBe(1);
  });
});

describe("a restore to a new volume claim", () => {
  test("is made like the old one, leaves the server alone, and goes on when it is run again", async () => {
    cluster = await startCluster();
    await eventually(() => expect(cluster.pod()).toBeDefined());
    const { api, kube, repository, volume } = cluster;
    const claim = "data-then";
    const facts = factsFor("1", { id: claim, volume: { ...cluster.facts.volume, claim }, oldClaim: "data-pg-0" });
    const context = contextOf(cluster.world({ kube }), { facts, steps: new Map() }, new AbortController().signal);
    const jobs: string[][] = [];
    const program = pgkitOn({ ...volume }, repository);
    api.behaviour.program = (run) => {
      jobs.push(run.args);
      return program(run);
    };
    expect(await restoreBeside(context, 30 * 1024 ** 3)).toMatchObject({ reached });
    expect(jobs[0]).toEqual(expect.arrayContaining(["--delta", "--without-archiving", "--start", "--latest"]));
    expect(api.read("PersistentVolumeClaim", "databases", claim)).toMatchObject({
      spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: String(36 * 1024 ** 3) } } },
    });
    expect(await restoreBeside(context, 1)).toMatchObject({ reached });
    expect(restored()).toEqual({ volume: { data: "old", isWhole: true }, replicas: 1, isUp: true });
    const other = contextOf(
      cluster.world(),
      { facts: { ...facts, words: ["--immediate"] }, steps: new Map() },
      new AbortController().signal,
    );
    await expect(restoreBeside(other, 1)).rejects.toMatchObject({ code: "refused-overwrite" });
  });
});
