import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Kube, KubeObject } from "../../src/kube/kube.ts";
import { openKube } from "../../src/kube/open.ts";
import { waitFor } from "../../src/kube/wait.ts";
import type { Secret } from "../../src/kube/workloads.ts";
import type { ProgressEvent } from "../../src/lib/report.ts";
import { type Clock, systemClock } from "../../src/lib/time.ts";
import { eventually } from "../support/eventually.ts";
import type { Rule } from "../support/kube-api/accounts.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";
import { collect } from "./contract.ts";

const { signal } = new AbortController();
const configMap = { apiVersion: "v1", kind: "ConfigMap" };
let api: KubeApi;
let kube: Kube;
let waits: number[] = [];
let told: ProgressEvent[] = [];

let passedMs = 0;

/** Only waiting takes time by it: what it is asked to wait is noted, and next to nothing is waited. */
const hurried: Clock = {
  ...systemClock,
  monotonicMs: () => passedMs,
  random: () => 0.5,
  delay: async (ms, stop) => {
    waits.push(ms);
    await systemClock.delay(Math.min(ms, 20), stop);
    passedMs += ms;
  },
};

beforeAll(async () => {
  api = await startKubeApi();
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "n" } });
  kube = await opened();
});
afterAll(() => api[Symbol.asyncDispose]());

async function opened(user = "admin", rules?: Record<string, Rule[]>): Promise<Kube> {
  waits = [];
  told = [];
  const kubeconfig = await api.kubeconfig(user, rules);
  return await openKube({ kubeconfig, env: {} }, { clock: hurried, report: (event) => told.push(event) });
}

const ref = (name: string) => ({ ...configMap, namespace: "n", name });
const put = (name: string, data = {}) => api.put({ ...configMap, metadata: { name, namespace: "n" }, data });

test("429 is waited for as long as Retry-After says, and then asked again", async () => {
  put("busy");
  waits = [];
  api.fail({ verb: "get", resource: "configmaps", times: 2, does: { answer: 429, retryAfter: 7 } });
  expect((await kube.get(ref("busy"), signal))?.metadata.name).toBe("busy");
  expect(waits).toEqual([7000, 7000]);
});

test.each([500, 502, 503, 504])("%i is asked again, each time later", async (answer) => {
  waits = [];
  api.fail({ verb: "get", resource: "configmaps", times: 3, does: { answer } });
  expect(await kube.get(ref("nothing"), signal)).toBeUndefined();
  expect(waits).toEqual([250, 500, 1000]);
});

test.each(["create", "patch", "delete"] as const)(
  "a %s whose answer is lost is done once, and told as done",
  async (verb) => {
    const name = `lost-${verb}`;
    if (verb !== "create") put(name);
    api.fail({ verb, resource: "configmaps", does: { hangUp: "after the work" } });
    if (verb === "create") {
      const made = await kube.create({ ...configMap, metadata: { name, namespace: "n" } }, signal);
      expect(made.metadata.uid).toBe(api.read("ConfigMap", "n", name)?.metadata.uid);
    } else if (verb === "patch") {
      expect(await kube.patch(ref(name), { merge: { data: { a: "1" } } }, signal)).toMatchObject({ data: { a: "1" } });
    } else {
      expect(await kube.delete(ref(name), {}, signal)).toBe(true);
      expect(api.read("ConfigMap", "n", name)).toBeUndefined();
    }
  },
);

test("a create whose answer is lost does not take another's object for its own", async () => {
  api.fail({ verb: "create", resource: "configmaps", does: { hangUp: "before" } });
  const stop = api.onChange(() => undefined);
  const creating = kube.create({ ...configMap, metadata: { name: "contested", namespace: "n" } }, signal);
  put("contested", { by: "another" });
  await expect(creating).rejects.toMatchObject({ code: "kube-conflict" });
  stop();
});

test("an API that is gone for a minute is waited for, and that is said", async () => {
  put("survivor");
  const patient = await opened();
  await patient.get(ref("survivor"), signal);
  await api.down();
  const asked = patient.get(ref("survivor"), signal);
  await eventually(() => expect(waits.length).toBeGreaterThan(8));
  await api.up();
  expect((await asked)?.metadata.name).toBe("survivor");
  expect(told).toMatchObject([{ type: "warning", message: expect.stringContaining("trying on for 90 s") }]);
});

test("an API that never answered is given up after seconds, naming what was asked of whom", async () => {
  const patient = await opened();
  await api.down();
  await expect(patient.get(ref("x"), signal)).rejects.toMatchObject({
    code: "kube-unreachable",
    message: expect.stringMatching(
      /^cannot get configmaps x in namespace n: Kubernetes at https:.* does not answer: .*ECONNREFUSED/,
    ),
  });
  expect(waits.reduce((sum, ms) => sum + ms, 0)).toBeLessThanOrEqual(10_000);
  await api.up();
});

test("another certificate is no matter of patience", async () => {
  const kubeconfig = await api.kubeconfig("stranger");
  const config = JSON.parse(await readFile(kubeconfig, "utf8"));
  delete config.clusters[0].cluster["certificate-authority-data"];
  await writeFile(kubeconfig, JSON.stringify(config));
  const other = await openKube({ kubeconfig, env: {} }, { clock: hurried, report: () => undefined });
  waits = [];
  await expect(other.get(ref("x"), signal)).rejects.toMatchObject({
    code: "kube-unreachable",
    hint: expect.stringContaining("certificate-authority-data"),
  });
  expect(waits).toEqual([]);
});

test("a 404 that the API did not say of this object is no absence", async () => {
  const missing = { apiVersion: "snapshot.storage.k8s.io/v2", kind: "VolumeSnapshot", namespace: "n", name: "x" };
  await expect(kube.get(missing, signal)).rejects.toMatchObject({ code: "kube-missing" });
  api.fail({ verb: "get", resource: "configmaps", does: { answer: 404 } });
  await expect(kube.get(ref("x"), signal)).rejects.toMatchObject({ code: "kube-missing" });
});

test.each(["cleanly", "in the middle"] as const)("a watch that is cut %s goes on where it was", async (how) => {
  const labels = { cut: how === "cleanly" ? "a" : "b" };
  const make = (name: string) => api.put({ ...configMap, metadata: { name, namespace: "n", labels } });
  const stopping = new AbortController();
  make(`first-${labels.cut}`);
  const seen = collect(kube.watch(configMap, { namespace: "n", labels: `cut=${labels.cut}` }, stopping.signal));
  await eventually(() => expect(seen.changes).toHaveLength(1));
  await eventually(() => expect(api.cutWatches(how)).toBe(1));
  make(`second-${labels.cut}`);
  await eventually(() => expect(seen.changes).toEqual([`present first-${labels.cut}`, `present second-${labels.cut}`]));
  expect(api.requests.filter((each) => each === "list configmaps n/").length).toBe(how === "cleanly" ? 1 : 2);
  stopping.abort(new Error("enough"));
  await expect(seen.ended).rejects.toThrow("enough");
});

test("a watch whose version is forgotten lists anew, and says what came and went meanwhile", async () => {
  const labels = { gone: "yes" };
  const make = (name: string) => api.put({ ...configMap, metadata: { name, namespace: "n", labels } });
  make("stays");
  make("goes");
  const stopping = new AbortController();
  const seen = collect(kube.watch(configMap, { namespace: "n", labels: "gone=yes" }, stopping.signal));
  await eventually(() => expect(seen.changes).toHaveLength(2));
  await api.down();
  make("comes");
  api.remove("ConfigMap", "n", "goes");
  api.compact();
  await api.up();
  await eventually(() => expect(seen.changes.slice(2).sort()).toEqual(["gone goes", "present comes"]));
  make("later");
  await eventually(() => expect(seen.changes.at(-1)).toBe("present later"));
  stopping.abort(new Error("enough"));
  await expect(seen.ended).rejects.toThrow("enough");
});

test("a list whose pages are forgotten in its middle begins anew", async () => {
  const labels = { many: "yes" };
  for (let each = 0; each < 120; each += 1) {
    api.put({ ...configMap, metadata: { name: `many-${each}`, namespace: "n", labels } });
  }
  const before = api.requests.length;
  let pages = 0;
  const original = api.requests.push.bind(api.requests);
  api.requests.push = (...asked) => {
    pages += 1;
    if (pages === 2) api.compact();
    return original(...asked);
  };
  const { objects } = await kube.list(configMap, { namespace: "n", labels: "many=yes" }, signal);
  api.requests.push = original;
  expect(objects).toHaveLength(120);
  expect(api.requests.length - before).toBe(4);
});

test("waiting ends at its deadline, saying for what", async () => {
  put("never");
  const until = (found: KubeObject | undefined) =>
    found?.metadata.labels?.["ready"] === "yes" ? { done: true } : { waiting: "the label ready" };
  const waiting = waitFor(kube, ref("never"), { until, withinMs: 400, clock: systemClock }, signal);
  await expect(waiting).rejects.toMatchObject({
    code: "kube-failed",
    message: "ConfigMap n/never: waited 0 s for the label ready",
  });
});

test("each verb that an account may not is named with its rule", async () => {
  put("forbidden");
  const poor = await opened("poor", {});
  const calls = {
    get: () => poor.get(ref("forbidden"), signal),
    list: () => poor.list(configMap, { namespace: "n" }, signal),
    create: () => poor.create({ ...configMap, metadata: { name: "new", namespace: "n" } }, signal),
    patch: () => poor.patch(ref("forbidden"), { merge: { data: {} } }, signal),
    delete: () => poor.delete(ref("forbidden"), {}, signal),
  };
  for (const [verb, call] of Object.entries(calls)) {
    const names = verb === "list" || verb === "create" ? "" : ", resourceNames: [forbidden]";
    await expect(call(), verb).rejects.toMatchObject({
      code: "kube-denied",
      hint: `add to a Role in namespace n that is bound to this account: - { apiGroups: [""], resources: [configmaps], verbs: [${verb}]${names} }`,
    });
  }
  await expect(poor.watch(configMap, { namespace: "n" }, signal).next()).rejects.toMatchObject({
    code: "kube-denied",
    hint: expect.stringContaining("verbs: [list]"),
  });
  const lister = await opened("lister", { n: [{ apiGroups: [""], resources: ["configmaps"], verbs: ["list"] }] });
  const all = (async () => {
    for await (const _ of lister.watch(configMap, { namespace: "n" }, signal));
  })();
  await expect(all).rejects.toMatchObject({ code: "kube-denied", hint: expect.stringContaining("verbs: [watch]") });
});

test("a Pod reaches its own cluster, in its namespace, and reads its token again when it was rotated", async () => {
  const { folder, env } = await api.serviceAccount("system:serviceaccount:n:pgkit", "n");
  const inside = await openKube(
    { inCluster: true, env, serviceAccountFolder: folder },
    { clock: hurried, report: () => undefined },
  );
  expect(inside.namespace).toBe("n");
  put("inside");
  await inside.get(ref("inside"), signal);
  api.accounts.expire(await readFile(join(folder, "token"), "utf8"));
  await expect(inside.get(ref("inside"), signal)).rejects.toMatchObject({
    code: "kube-denied",
    message: expect.stringContaining("the token or certificate is not accepted"),
  });
  await writeFile(join(folder, "token"), api.accounts.rotate("system:serviceaccount:n:pgkit"));
  expect((await inside.get(ref("inside"), signal))?.metadata.name).toBe("inside");
});

test("which cluster is meant is asked of kubeconfig and context, and said where none is", async () => {
  const deps = { clock: hurried, report: () => undefined };
  await expect(openKube({ env: {} }, deps)).rejects.toMatchObject({
    code: "config",
    message: expect.stringContaining("no kubeconfig"),
  });
  const kubeconfig = await api.kubeconfig("someone");
  await expect(openKube({ kubeconfig, context: "prod", env: {} }, deps)).rejects.toMatchObject({
    code: "config",
    hint: "there are: test",
  });
  const byVariable = await openKube({ env: { KUBECONFIG: kubeconfig } }, deps);
  expect(byVariable.where).toBe(`Kubernetes at ${api.url} (context test)`);
  await writeFile(join(api.folder, "broken"), "{ not: [yaml");
  await expect(openKube({ kubeconfig: join(api.folder, "broken"), env: {} }, deps)).rejects.toMatchObject({
    code: "config",
  });
});

test.each(["cleanly", "in the middle"] as const)(
  "a log stream that is cut %s goes on with the next line",
  async (how) => {
    const next = Promise.withResolvers<void>();
    api.behaviour.program = async ({ log }) => {
      for (const line of ["one", "two", "two"]) log(line);
      await next.promise;
      for (const line of ["three", "four"]) log(line);
      return 0;
    };
    const name = how === "cleanly" ? "log-a" : "log-b";
    const template = { spec: { containers: [{ name: "main" }] } };
    api.put({ apiVersion: "batch/v1", kind: "Job", metadata: { name, namespace: "n" }, spec: { template } });
    const which = { namespace: "n", labels: `job-name=${name}` };
    const pod = await eventually(async () => {
      const { objects } = await kube.list({ apiVersion: "v1", kind: "Pod" }, which, signal);
      expect(objects).toHaveLength(1);
      return objects[0]?.metadata.name ?? "";
    });
    const lines: string[] = [];
    const reading = (async () => {
      for await (const line of kube.log({ namespace: "n", pod, container: "main" }, signal)) lines.push(line);
    })();
    await eventually(() => expect(lines).toHaveLength(3));
    expect(api.cutLogs(how)).toBe(1);
    next.resolve();
    await reading;
    expect(lines).toEqual(["one", "two", "two", "three", "four"]);
  },
);

test("a Secret that the API server gave is told with its kind", async () => {
  api.put({ apiVersion: "v1", kind: "Secret", metadata: { name: "s", namespace: "n" }, stringData: { a: "1" } });
  const { objects } = await kube.list<Secret>({ apiVersion: "v1", kind: "Secret" }, { namespace: "n" }, signal);
  expect(objects.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`)).toEqual(["v1 Secret"]);
});

test("what goes between a look and the watch that follows it is seen to have gone", async () => {
  put("short");
  const racing: Kube = {
    ...kube,
    async get(which, stop) {
      const found = await kube.get(which, stop);
      api.remove("ConfigMap", "n", "short");
      return found as never;
    },
  };
  const until = (found: KubeObject | undefined) => (found === undefined ? { done: "gone" } : { waiting: "it to go" });
  const waiting = { until, withinMs: 5000, clock: systemClock };
  expect(await waitFor(racing, ref("short"), waiting, signal)).toBe("gone");
});
