import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Change, Kube, KubeObject, Manifest } from "../../src/kube/kube.ts";
import { refOf } from "../../src/kube/kube.ts";
import { rolloutOf } from "../../src/kube/rollout.ts";
import { runJob } from "../../src/kube/run-job.ts";
import type { Job, Pod, Secret, Workload } from "../../src/kube/workloads.ts";
import { isPgkitError } from "../../src/lib/errors.ts";
import { systemClock } from "../../src/lib/time.ts";
import { eventually } from "../support/eventually.ts";

/** A cluster to hold to the contract. */
export interface ContractWorld {
  kube: Kube;
  /** Of this run alone. */
  namespace: string;
  /** The same cluster as an account without any right. */
  powerless: Kube;
  /** Images of a Pod that waits, of one that has `sh`, and one that is not there. */
  images: { pause: string; shell: string; absent: string };
  /** How long a Pod whose image is not there may take to say so. */
  pullMs: number;
  close(): Promise<void>;
}

const signal = new AbortController().signal;

/** What pgkit relies on, one `it` a promise; on the server of the tests and on any real cluster. */
export function kubeContract(name: string, open: () => Promise<ContractWorld>): void {
  describe(`the Kubernetes API (${name})`, () => {
    let world: ContractWorld;
    let made = 0;
    beforeAll(async () => {
      world = await open();
    });
    afterAll(() => world.close());
    const fresh = (prefix: string) => {
      made += 1;
      return `${prefix}-${made}`;
    };
    const secret = (data: Record<string, string>, more: object = {}): Manifest => ({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: fresh("secret"), namespace: world.namespace, labels: { contract: "yes" } },
      stringData: data,
      ...more,
    });
    const reveal = (found: Secret | undefined, key: string) =>
      Buffer.from(found?.data?.[key] ?? "", "base64").toString("utf8");

    it("gives what was created, with a version and a uid", async () => {
      const manifest = secret({ url: "postgresql://a" });
      const created = await world.kube.create<Secret>(manifest, signal);
      expect(created.metadata).toMatchObject({ uid: expect.any(String), resourceVersion: expect.any(String) });
      const found = await world.kube.get<Secret>(refOf(created), signal);
      expect(reveal(found, "url")).toBe("postgresql://a");
      expect(found?.metadata.resourceVersion).toBe(created.metadata.resourceVersion);
    });

    it("says undefined of what is not there, and kube-missing of a kind that is not", async () => {
      const { namespace } = world;
      const absent = { apiVersion: "v1", kind: "Secret", namespace, name: "absent" };
      expect(await world.kube.get(absent, signal)).toBeUndefined();
      const unknown = { apiVersion: "pgkit.example/v9", kind: "Nothing", namespace, name: "absent" };
      await expect(world.kube.get(unknown, signal)).rejects.toMatchObject({ code: "kube-missing" });
    });

    it("refuses a second one of the same name with kube-conflict", async () => {
      const manifest = secret({ a: "1" });
      await world.kube.create(manifest, signal);
      const again = world.kube.create(manifest, signal);
      await expect(again).rejects.toMatchObject({
        code: "kube-conflict",
        message: expect.stringContaining("create secrets"),
      });
    });

    it("lists all by label across pages, each with its kind", async () => {
      const labels = { page: fresh("page") };
      const names = Array.from({ length: 120 }, (_, index) => `page-${String(index).padStart(3, "0")}`);
      const { namespace } = world;
      for (let from = 0; from < names.length; from += 20) {
        const batch = names.slice(from, from + 20);
        await Promise.all(
          batch.map((name) =>
            world.kube.create({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace, labels } }, signal),
          ),
        );
      }
      const which = { namespace, labels: `page=${labels.page}` };
      const { objects } = await world.kube.list({ apiVersion: "v1", kind: "ConfigMap" }, which, signal);
      expect(objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual(
        names.map((each) => `ConfigMap ${each}`),
      );
    });

    it("changes by merge patch, and removes by null", async () => {
      const created = await world.kube.create<Secret>(secret({ keep: "1", drop: "2" }), signal);
      const value = Buffer.from("3").toString("base64");
      const patched = await world.kube.patch<Secret>(
        refOf(created),
        { merge: { data: { drop: null, add: value } } },
        signal,
      );
      expect(Object.keys(patched.data ?? {}).sort()).toEqual(["add", "keep"]);
      expect(patched.metadata.resourceVersion).not.toBe(created.metadata.resourceVersion);
    });

    it("changes by JSON patch under a condition", async () => {
      const created = await world.kube.create<Secret>(secret({ url: "old" }), signal);
      const json = [{ op: "replace", path: "/data/url", value: Buffer.from("new").toString("base64") }];
      const { resourceVersion } = created.metadata;
      const patched = await world.kube.patch<Secret>(refOf(created), { json, resourceVersion }, signal);
      expect(reveal(patched, "url")).toBe("new");
      const stale = world.kube.patch(refOf(created), { json, resourceVersion }, signal);
      await expect(stale).rejects.toMatchObject({ code: "kube-conflict" });
    });

    it("refuses a patch on a stale version with kube-conflict, and leaves the object as it is", async () => {
      const created = await world.kube.create<Secret>(secret({ a: "1" }), signal);
      const { resourceVersion } = created.metadata;
      const merge = (text: string) => ({
        merge: { data: { a: Buffer.from(text).toString("base64") } },
        resourceVersion,
      });
      await world.kube.patch(refOf(created), merge("2"), signal);
      await expect(world.kube.patch(refOf(created), merge("3"), signal)).rejects.toMatchObject({
        code: "kube-conflict",
        message: expect.stringContaining(`in namespace ${world.namespace}`),
      });
      expect(reveal(await world.kube.get<Secret>(refOf(created), signal), "a")).toBe("2");
    });

    it("applies, and names the fields that others manage where they conflict", async () => {
      const { namespace } = world;
      const config = (mode: string, name: string): Manifest => ({
        ...{ apiVersion: "v1", kind: "ConfigMap" },
        metadata: { name, namespace },
        data: { mode },
      });
      const name = fresh("applied");
      const first = await world.kube.apply(config("a", name), {}, signal);
      expect(first.metadata.managedFields?.map(({ manager, operation }) => `${manager} ${operation}`)).toContain(
        "pgkit Apply",
      );
      await world.kube.apply(config("b", name), {}, signal);
      const other = await world.kube.create({ ...config("theirs", fresh("theirs")) }, signal);
      await world.kube.patch(refOf(other), { merge: { data: { mode: "patched" } } }, signal);
      const conflict = world.kube.apply(config("ours", other.metadata.name), {}, signal);
      await expect(conflict).rejects.toMatchObject({
        code: "kube-conflict",
        message: expect.stringContaining(".data.mode"),
      });
      const forced = await world.kube.apply(config("ours", other.metadata.name), { force: true }, signal);
      expect(forced).toMatchObject({ data: { mode: "ours" } });
    });

    it("refuses to change an immutable Secret", async () => {
      const created = await world.kube.create<Secret>(secret({ a: "1" }, { immutable: true }), signal);
      const merge = { data: { a: Buffer.from("2").toString("base64") } };
      await expect(world.kube.patch(refOf(created), { merge }, signal)).rejects.toMatchObject({
        code: "kube-failed",
        message: expect.stringContaining("immutable"),
      });
    });

    it("names the rule that is missing where an account may not", async () => {
      const ref = { apiVersion: "v1", kind: "Secret", namespace: world.namespace, name: "litellm-db" };
      await expect(world.powerless.get(ref, signal)).rejects.toMatchObject({
        code: "kube-denied",
        message: expect.stringContaining(`may not get secrets litellm-db in namespace ${world.namespace}`),
        hint: expect.stringContaining(
          '- { apiGroups: [""], resources: [secrets], verbs: [get], resourceNames: [litellm-db] }',
        ),
      });
    });

    it("deletes, says whether it was there, and not where it is another of that name", async () => {
      const created = await world.kube.create<Secret>(secret({ a: "1" }), signal);
      const wrong = world.kube.delete(refOf(created), { uid: "6f1c1c0e-0000-4000-8000-000000000000" }, signal);
      await expect(wrong).rejects.toMatchObject({ code: "kube-conflict" });
      expect(await world.kube.delete(refOf(created), { uid: created.metadata.uid }, signal)).toBe(true);
      await eventually(async () => expect(await world.kube.get(refOf(created), signal)).toBeUndefined());
      expect(await world.kube.delete(refOf(created), {}, signal)).toBe(false);
    });

    it("watches what is there, what changes and what goes, until told to stop", async () => {
      const { namespace } = world;
      const labels = { watch: fresh("watch") };
      const config = (name: string): Manifest => ({
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name, namespace, labels },
      });
      const before = await world.kube.create(config(fresh("before")), signal);
      const stopping = new AbortController();
      const which = { namespace, labels: `watch=${labels.watch}` };
      const seen = collect(world.kube.watch({ apiVersion: "v1", kind: "ConfigMap" }, which, stopping.signal));
      await eventually(() => expect(seen.changes).toEqual([`present ${before.metadata.name}`]));
      const later = await world.kube.create(config(fresh("later")), signal);
      await world.kube.patch(refOf(before), { merge: { data: { a: "1" } } }, signal);
      await world.kube.delete(refOf(later), {}, signal);
      const [a, b] = [before.metadata.name, later.metadata.name];
      await eventually(() =>
        expect(seen.changes).toEqual([`present ${a}`, `present ${b}`, `present ${a}`, `gone ${b}`]),
      );
      stopping.abort(new Error("enough"));
      await expect(seen.ended).rejects.toThrow("enough");
    });

    it.each(["Deployment", "StatefulSet"])("says when a %s has rolled out", async (kind) => {
      const created = await world.kube.create<Workload>(workload(kind, fresh("app"), world), signal);
      const ref = refOf(created);
      const settled = async () => {
        const now = await world.kube.get<Workload>(ref, signal);
        expect(now === undefined ? "absent" : rolloutOf(now).type).toBe("done");
        return now;
      };
      const first = await eventually(settled, 120_000);
      const template = { metadata: { annotations: { "pgkit.dev/restarted-at": "1" } } };
      const patched = await world.kube.patch<Workload>(ref, { merge: { spec: { template } } }, signal);
      expect(patched.metadata.generation).toBeGreaterThan(first?.metadata.generation ?? 0);
      expect(rolloutOf(patched).type).toBe("waiting");
      const second = await eventually(settled, 120_000);
      expect(second?.status?.observedGeneration).toBe(patched.metadata.generation);
      const scaled = await world.kube.patch<Workload>(
        ref,
        { merge: { spec: { replicas: 0 } }, subresource: "scale" },
        signal,
      );
      expect(scaled.metadata.name).toBe(created.metadata.name);
      await eventually(async () => expect((await settled())?.status?.replicas ?? 0).toBe(0), 120_000);
    });

    it("follows a Job's log to its end, and says how it ended", async () => {
      const script = "echo one; sleep 1; echo two; exit 3";
      const job = await world.kube.create<Job>(jobManifest(fresh("job"), script, world), signal);
      const pods = async () => {
        const which = { namespace: world.namespace, labels: `batch.kubernetes.io/job-name=${job.metadata.name}` };
        const { objects } = await world.kube.list<Pod>({ apiVersion: "v1", kind: "Pod" }, which, signal);
        const [pod] = objects;
        expect(["Running", "Failed"]).toContain(pod?.status?.phase);
        return pod?.metadata.name ?? "";
      };
      const pod = await eventually(pods, 120_000);
      const lines: string[] = [];
      for await (const line of world.kube.log({ namespace: world.namespace, pod, container: "main" }, signal))
        lines.push(line);
      expect(lines).toEqual(["one", "two"]);
      await eventually(async () => {
        const now = await world.kube.get<Job>(refOf(job), signal);
        expect(now?.status?.conditions?.filter(({ status }) => status === "True").map(({ type }) => type)).toContain(
          "Failed",
        );
      }, 300_000);
      const found = await world.kube.get<Pod>(
        { apiVersion: "v1", kind: "Pod", namespace: world.namespace, name: pod },
        signal,
      );
      expect(found?.status?.containerStatuses?.[0]?.state?.terminated?.exitCode).toBe(3);
    });

    const runIt = async (manifest: Manifest, stop = signal, startWithinMs?: number) => {
      const lines: string[] = [];
      const pods = new Set<string>();
      const onLine = (line: string, pod: string) => {
        lines.push(line);
        pods.add(pod);
      };
      const options = { onLine, clock: systemClock, report: () => undefined, startWithinMs };
      const ended = runJob(world.kube, manifest, options, stop);
      ended.catch(() => undefined);
      return { lines, pods, ended };
    };

    it("replaces a Pod that fails as long as backoffLimit says, and gives the exit status of the last", async () => {
      const { lines, pods, ended } = await runIt(jobManifest(fresh("again"), "echo tried; exit 7", world, 1));
      expect(await ended).toMatchObject({ exitStatus: 7, reason: undefined });
      expect(lines).toEqual(["tried", "tried"]);
      expect(pods.size).toBe(2);
    });

    it("ends a Job at its deadline", async () => {
      const manifest = jobManifest(fresh("late"), "sleep 600", world, 0, { activeDeadlineSeconds: 2 });
      expect(await (await runIt(manifest)).ended).toMatchObject({ reason: "DeadlineExceeded" });
    });

    it("deletes a Job in the foreground: it goes when its Pods have ended", async () => {
      const stopping = new AbortController();
      const manifest = jobManifest(fresh("stopped"), "echo begun; sleep 600", world);
      const { lines, ended } = await runIt(manifest, stopping.signal);
      await eventually(() => expect(lines).toEqual(["begun"]), 120_000);
      stopping.abort(new Error("enough"));
      await expect(ended).rejects.toThrow("enough");
      expect(await world.kube.get(refOf(manifest), signal)).toBeUndefined();
      const which = { namespace: world.namespace, labels: `job-name=${manifest.metadata.name}` };
      expect((await world.kube.list({ apiVersion: "v1", kind: "Pod" }, which, signal)).objects).toEqual([]);
    });

    it("says of a Pod whose image is not there what it waits for", async () => {
      const { images } = world;
      const manifest = jobManifest(fresh("absent"), "true", { ...world, images: { ...images, shell: images.absent } });
      const { ended } = await runIt(manifest, signal, world.pullMs);
      await expect(ended).rejects.toMatchObject({ code: "kube-failed", message: expect.stringMatching(/Err|BackOff/) });
    });
  });
}

/** What a watch says, as `present NAME` or `gone NAME`. */
export function collect(watch: AsyncGenerator<Change<KubeObject>>): { changes: string[]; ended: Promise<void> } {
  const changes: string[] = [];
  const ended = (async () => {
    for await (const { type, object } of watch) changes.push(`${type} ${object.metadata.name}`);
  })();
  // It is looked at when the test asks for it.
  ended.catch((error) => isPgkitError(error));
  return { changes, ended };
}

function workload(kind: string, name: string, { namespace, images }: ContractWorld): Manifest {
  const labels = { app: name };
  const containers = [{ name: "main", image: images.pause }];
  const template = { metadata: { labels }, spec: { terminationGracePeriodSeconds: 0, containers } };
  const spec = {
    replicas: 1,
    selector: { matchLabels: labels },
    template,
    ...(kind === "StatefulSet" ? { serviceName: name } : {}),
  };
  return { apiVersion: "apps/v1", kind, metadata: { name, namespace }, spec };
}

function jobManifest(
  name: string,
  script: string,
  { namespace, images }: Pick<ContractWorld, "namespace" | "images">,
  backoffLimit = 0,
  more: object = {},
): Manifest {
  const containers = [{ name: "main", image: images.shell, command: ["sh", "-c", script] }];
  const template = { spec: { restartPolicy: "Never", terminationGracePeriodSeconds: 1, containers } };
  const spec = { backoffLimit, template, ...more };
  return { apiVersion: "batch/v1", kind: "Job", metadata: { name, namespace }, spec };
}
