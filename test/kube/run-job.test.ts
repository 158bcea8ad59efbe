import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { Kube, Manifest } from "../../src/kube/kube.ts";
import { openKube } from "../../src/kube/open.ts";
import { runJob } from "../../src/kube/run-job.ts";
import type { ProgressEvent } from "../../src/lib/report.ts";
import { type Clock, systemClock } from "../../src/lib/time.ts";
import { eventually } from "../support/eventually.ts";
import type { Rule } from "../support/kube-api/accounts.ts";
import type { Program } from "../support/kube-api/controllers.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";

let api: KubeApi;
let kube: Kube;
let told: ProgressEvent[] = [];
let lines: string[] = [];
let count = 0;

beforeAll(async () => {
  api = await startKubeApi();
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "n" } });
});
afterAll(() => api[Symbol.asyncDispose]());
beforeEach(async () => {
  told = [];
  lines = [];
  kube = await opened();
});

/** What failed is tried again soon, so that nothing has to be waited for here. */
const hurried: Clock = { ...systemClock, random: () => 0.01 };

async function opened(user = "admin", rules?: Record<string, Rule[]>): Promise<Kube> {
  const kubeconfig = await api.kubeconfig(user, rules);
  return await openKube({ kubeconfig, env: {} }, { clock: hurried, report: (event) => told.push(event) });
}

function job(spec: object = {}, image = "pgkit"): Manifest {
  count += 1;
  const template = { spec: { restartPolicy: "Never", containers: [{ name: "pgkit", image }] } };
  const metadata = { name: `job-${count}`, namespace: "n" };
  return { apiVersion: "batch/v1", kind: "Job", metadata, spec: { backoffLimit: 0, template, ...spec } };
}

function started(manifest: Manifest, as = kube, startWithinMs?: number) {
  const stopping = new AbortController();
  const onLine = (line: string) => lines.push(line);
  const options = { onLine, clock: hurried, report: (event: ProgressEvent) => told.push(event), startWithinMs };
  const ended = runJob(as, manifest, options, stopping.signal);
  // It is looked at when the test asks for it.
  ended.catch(() => undefined);
  return { ended, stop: () => stopping.abort(new Error("Ctrl-C")) };
}

/** Writes a line, and goes on when it is told to; each Pod anew. */
function steps(): { program: Program; pods: string[]; goOn: () => void; stopped: unknown[] } {
  const pods: string[] = [];
  const stopped: unknown[] = [];
  let next = Promise.withResolvers<void>();
  const program: Program = async ({ pod, log, signal }) => {
    signal.addEventListener("abort", () => {
      stopped.push(signal.reason);
      next.resolve();
    });
    log(`begun ${pods.length}`);
    pods.push(pod.metadata.name);
    await next.promise;
    next = Promise.withResolvers();
    if (signal.aborted) return 137;
    log("done");
    return 0;
  };
  return { program, pods, stopped, goOn: () => next.resolve() };
}

const messages = () => told.flatMap((event) => ("message" in event ? [event.message] : []));

test("a Pod that is evicted is followed by the one that takes its place", async () => {
  const { program, pods, goOn } = steps();
  api.behaviour.program = program;
  const ignored = { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] };
  const { ended } = started(job({ podFailurePolicy: { rules: [ignored] } }));
  await eventually(() => expect(lines).toEqual(["begun 0"]));
  api.controllers.evict("n", pods[0] ?? "");
  await eventually(() => expect(lines).toEqual(["begun 0", "begun 1"]));
  goOn();
  expect(await ended).toMatchObject({ exitStatus: 0, pod: pods[1], reason: undefined });
  expect(lines).toEqual(["begun 0", "begun 1", "done"]);
  expect(messages()).toContain(
    `Pod ${pods[0]} of Job n/job-${count} ended (Evicted: The node was low on resource: memory.); Pod ${pods[1]} takes its place`,
  );
});

test.each(["Evicted", "OOMKilled"] as const)("a Pod that ends %s, and is the last, says so", async (reason) => {
  const { program, pods } = steps();
  api.behaviour.program = program;
  const { ended } = started(job());
  await eventually(() => expect(lines).toEqual(["begun 0"]));
  if (reason === "Evicted") api.controllers.evict("n", pods[0] ?? "");
  else api.controllers.outOfMemory("n", pods[0] ?? "");
  expect(await ended).toMatchObject({ exitStatus: 137, reason });
});

test("an exit status is that of the container, and what runs too long is named", async () => {
  api.behaviour.program = async ({ log }) => {
    log("no such database");
    return 10;
  };
  expect(await started(job()).ended).toMatchObject({ exitStatus: 10, reason: undefined });
  expect(lines).toEqual(["no such database"]);
  api.behaviour.program = steps().program;
  expect(await started(job({ activeDeadlineSeconds: 1 })).ended).toMatchObject({ reason: "DeadlineExceeded" });
});

test("an image that cannot be pulled ends the Job, and is named", async () => {
  const manifest = job({}, "registry.example/there-is-none:1");
  await expect(started(manifest, kube, 300).ended).rejects.toMatchObject({
    code: "kube-failed",
    message: expect.stringMatching(
      /^Job n\/job-\d+ did not begin within 0.3 s: Pod .* waits: ImagePullBackOff: Back-off pulling image "registry.example\/there-is-none:1"$/,
    ),
  });
  expect(api.read("Job", "n", manifest.metadata.name)).toBeUndefined();
});

test("an API that is gone in the middle, and a log that is cut, lose neither a line nor the end", async () => {
  const { program, goOn } = steps();
  api.behaviour.program = program;
  const { ended } = started(job());
  await eventually(() => expect(lines).toEqual(["begun 0"]));
  api.cutLogs("cleanly");
  await api.down();
  goOn();
  await eventually(() => expect(messages().join()).toContain("trying on for 90 s"));
  await api.up();
  expect(await ended).toMatchObject({ exitStatus: 0 });
  expect(lines).toEqual(["begun 0", "done"]);
});

test("a Job that somebody deletes is no end", async () => {
  api.behaviour.program = steps().program;
  const manifest = job();
  const { ended } = started(manifest);
  await eventually(() => expect(lines).toEqual(["begun 0"]));
  await kube.delete({ ...manifest, namespace: "n", name: manifest.metadata.name }, {}, new AbortController().signal);
  await expect(ended).rejects.toMatchObject({
    code: "kube-failed",
    message: `Job n/${manifest.metadata.name} was deleted by somebody before it ended`,
  });
});

test("Ctrl-C ends the Job and waits for its Pod", async () => {
  const { program, stopped } = steps();
  api.behaviour.program = program;
  const manifest = job();
  const { ended, stop } = started(manifest);
  await eventually(() => expect(lines).toEqual(["begun 0"]));
  stop();
  await expect(ended).rejects.toThrow("Ctrl-C");
  expect(stopped).toEqual(["TERM"]);
  expect(api.read("Job", "n", manifest.metadata.name)).toBeUndefined();
  expect(messages().slice(-2)).toEqual([
    `ending Job n/${manifest.metadata.name}`,
    `Job n/${manifest.metadata.name} has ended`,
  ]);
});

test("a run of the same name takes the Job up", async () => {
  const { program, goOn, pods } = steps();
  api.behaviour.program = program;
  const manifest = job();
  api.put(structuredClone(manifest) as never);
  await eventually(() => expect(pods).toHaveLength(1));
  const { ended } = started(manifest);
  await eventually(() => expect(lines).toEqual(["begun 0"]));
  goOn();
  expect(await ended).toMatchObject({ exitStatus: 0 });
  expect(messages()).toContain(`Job n/${manifest.metadata.name} is there already, and is taken up`);
});

test("who may not read logs is told the rule, and that the Job runs on", async () => {
  const { program } = steps();
  api.behaviour.program = program;
  const rules: Rule[] = [
    { apiGroups: ["batch"], resources: ["jobs"], verbs: ["create", "get", "list", "watch"] },
    { apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] },
  ];
  const poor = await opened("poor", { n: rules });
  await expect(started(job(), poor).ended).rejects.toMatchObject({
    code: "kube-denied",
    hint: expect.stringContaining("resources: [pods/log], verbs: [get]"),
  });
  expect(messages()).toContain(`Job n/job-${count} runs on, and cannot be followed`);
});
