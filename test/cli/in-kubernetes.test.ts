import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { parse } from "yaml";
import type { Job } from "../../src/kube/workloads.ts";
import { eventually } from "../support/eventually.ts";
import { everything, type Rule } from "../support/kube-api/accounts.ts";
import type { Program } from "../support/kube-api/controllers.ts";
import { installPgkitKinds, type Obj } from "../support/kube-api/objects.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";
import { type RunOptions, run } from "./run.ts";

const yaml = `repository: s3://bucket/prod
kubernetes: { image: "pgkit:1", restoreScratch: 2GiB, restoreScratchClass: fast }
instances:
  a:
    url: postgresql://postgres@server:5432/postgres
    passwordFrom: { env: A_PASSWORD }
    schedule: { logical: "0 2 * * *", base: "30 1 * * 0", check: "0 * * * *" }
  b: { url: "postgresql://postgres@other:5432/postgres", schedule: { prune: "0 4 * * *" } }
`;
let api: KubeApi;
let jobs: Obj[] = [];

beforeAll(async () => {
  api = await startKubeApi();
  installPgkitKinds(api);
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "databases" } });
  const rendered = await run(["manifests", "--json"], { files: { "pgkit.yaml": yaml } });
  for (const manifest of JSON.parse(rendered.stdout).items as Obj[]) {
    if (manifest.kind === "CronJob" || manifest.kind === "ServiceAccount") api.put(manifest);
  }
  api.onChange((object, type) => object.kind === "Job" && type === "ADDED" && jobs.push(object));
});
afterAll(() => api[Symbol.asyncDispose]());
beforeEach(() => {
  jobs = [];
});

async function pgkit(words: string, options: RunOptions & { rules?: Rule[] } = {}) {
  const kubeconfig = await api.kubeconfig("laptop", { databases: options.rules ?? everything });
  const env = { PGKIT_KUBECONFIG: kubeconfig, PGKIT_ACTOR: "erin", ...options.env };
  return await run(words.split(" "), { ...options, files: { "pgkit.yaml": yaml }, env });
}

/** A pgkit that says these, and ends so. */
function saying(status: number, ...events: (object | string)[]): Program {
  return async ({ log }) => {
    for (const event of events) log(typeof event === "string" ? event : JSON.stringify(event));
    return status;
  };
}

const result = (json: object, text: string) => {
  const document = JSON.stringify({ json, text });
  const half = Math.ceil(document.length / 2);
  const pieces = [document.slice(0, half), document.slice(half)];
  return pieces.map((piece, index) => ({ type: "result", part: index + 1, of: 2, piece }));
};

function onlyJob(): { job: Obj; spec: Record<string, unknown>; pod: ReturnType<typeof podOf> } {
  expect(jobs).toHaveLength(1);
  const [job] = jobs as [Obj];
  return { job, spec: job["spec"] as Record<string, unknown>, pod: podOf(job) };
}

function podOf(job: Obj) {
  const { template } = (job as unknown as Job).spec ?? {};
  const { containers = [], volumes = [] } = template?.spec ?? {};
  const [container] = containers;
  return { container, volumes };
}

test("a backup is what its CronJob would do: its result, text and exit status are ours", async () => {
  const task = "backup a/app";
  api.behaviour.program = saying(
    3,
    { type: "start", task },
    { type: "done", task, seconds: 2, bytes: 1024 },
    { type: "warning", message: "the clock is wrong", hint: "set it" },
    "a line of something else",
    ...result({ backups: [{ id: "x" }] }, "made x"),
  );
  const ran = await pgkit(
    "backup logical app --instance a --in-kubernetes --jobs 3 --verbose --time-zone Europe/Berlin",
  );
  expect(ran).toMatchObject({ status: 3, stdout: "made x\n" });
  expect(ran.stderr).toContain("backup a/app: done, 1.0 KiB in 2.0 s\n");
  expect(ran.stderr).toContain("warning: the clock is wrong\nhint: set it\na line of something else\n");
  const { job, spec, pod } = onlyJob();
  expect(job.metadata).toMatchObject({
    namespace: "databases",
    name: expect.stringMatching(/^pgkit-logical-a-[0-9a-z]{8}$/),
    annotations: { "pgkit.dev/started-by": expect.stringMatching(/^erin as .* on ./) },
    ownerReferences: [{ kind: "CronJob", name: "pgkit-logical-a", uid: expect.any(String) }],
  });
  expect(spec).toMatchObject({ backoffLimit: 0, ttlSecondsAfterFinished: 86_400, activeDeadlineSeconds: 43_200 });
  expect(spec["podFailurePolicy"]).toBeUndefined();
  const args = pod.container?.args ?? [];
  expect(args.slice(0, 3)).toEqual(["backup", "logical", "--instance=a"]);
  expect(args.slice(3, -3).sort()).toEqual(["--jobs=3", "--time-zone=Europe/Berlin", "--verbose"]);
  expect(args.slice(-3)).toEqual(["--progress=events", "--", "app"]);
  const [actor, ...others] = pod.container?.env ?? [];
  expect(actor?.value).toMatch(/^erin as .* on .*, job\/pgkit-logical-a-/);
  expect(others.map(({ name }) => name)).toEqual(["A_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]);
  const json = await pgkit("backup logical app --instance a --in-kubernetes --json");
  expect(JSON.parse(json.stdout)).toEqual({ backups: [{ id: "x" }] });
});

test("an error in the Job is ours, with its code and hint", async () => {
  api.behaviour.program = saying(14, {
    type: "error",
    error: { code: "postgres-unreachable", message: "server:5432 does not answer", hint: "is it up?" },
  });
  const ran = await pgkit("backup base --incremental --instance a --in-kubernetes --json");
  expect(ran.status).toBe(14);
  expect(JSON.parse(ran.stderr.trim().split("\n").at(-1) ?? "")).toEqual({
    error: { code: "postgres-unreachable", message: "server:5432 does not answer", hint: "is it up?" },
  });
  expect(onlyJob().pod.container?.args).toContain("--incremental");
});

test.each([
  ["Evicted", "The node was low on resource: memory.", "run the command again"],
  ["OOMKilled", "", "kubernetes.restoreMemory"],
] as const)(
  "a Pod that was ended by the node (%s) is told as that, and not as what it said last",
  async (reason, detail, hint) => {
    const begun = Promise.withResolvers<string>();
    api.behaviour.program = async ({ pod, log, signal }) => {
      log(JSON.stringify({ type: "start", task: "backup a/app" }));
      begun.resolve(pod.metadata.name);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      return 130;
    };
    const running = pgkit("backup logical --instance a --in-kubernetes");
    const pod = await begun.promise;
    if (reason === "Evicted") api.controllers.evict("databases", pod);
    else api.controllers.outOfMemory("databases", pod);
    const ran = await running;
    expect(ran.status).toBe(13);
    expect(ran.stderr).toContain(
      `did not come to its end: ${reason} (Pod ${pod})${detail === "" ? "" : `: ${detail}`}`,
    );
    expect(ran.stderr).toContain(hint);
    expect(ran.stderr).toContain("backup a/app: failed: the Job has ended");
  },
);

test("a Job that ends without a word is no success, nor another error than its own", async () => {
  api.behaviour.program = saying(0, "hello");
  expect(await pgkit("backup logical --instance a --in-kubernetes")).toMatchObject({
    status: 13,
    stderr: expect.stringContaining("is done, and its result did not come with its log: hello"),
  });
  api.behaviour.program = saying(0, ...result({ backups: [] }, "made").slice(0, 1));
  expect(await pgkit("backup logical --instance a --in-kubernetes")).toMatchObject({
    ...{ status: 13, stdout: "" },
    stderr: expect.stringContaining("its result did not come with its log"),
  });
  api.behaviour.program = saying(2, "pgkit: unknown option '--progress'", "hint: pgkit --help");
  expect(await pgkit("backup logical --instance a --in-kubernetes")).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("ended with exit status 2: pgkit: unknown option '--progress'"),
  });
});

test("a restore has the identity of a check, room of its own, and its moment decided and confirmed here", async () => {
  api.behaviour.program = saying(0, ...result({}, "restored"));
  const refused = await pgkit("restore app --replace --instance a --in-kubernetes");
  expect(refused).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("ends all sessions of app of instance a"),
  });
  expect(jobs).toEqual([]);
  const ran = await pgkit(
    "restore app --to-time -15m --replace --yes --instance a --in-kubernetes --scratch-size 3GiB",
  );
  expect(ran).toMatchObject({ status: 0, stdout: "restored\n" });
  const { job, spec, pod } = onlyJob();
  expect(job.metadata).toMatchObject({
    name: expect.stringMatching(/^pgkit-restore-a-/),
    ownerReferences: [{ name: "pgkit-check-a" }],
  });
  const args = (pod.container?.args ?? []).join(" ");
  expect(args).toMatch(/ --to-time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /);
  expect(args).toMatch(/ --yes -- app$/);
  expect(args).not.toContain("scratch-size");
  expect(spec["activeDeadlineSeconds"]).toBe(43_200);
  expect(pod.container?.["resources"]).toMatchObject({ limits: { memory: "1Gi" }, requests: { memory: "1Gi" } });
  const claim = { storageClassName: "fast", resources: { requests: { storage: "3Gi" } } };
  const scratch = pod.volumes.find(({ name }) => name === "scratch");
  expect(scratch).toMatchObject({ ephemeral: { volumeClaimTemplate: { spec: claim } } });
  expect(scratch).not.toHaveProperty("emptyDir");
});

test("no secret and nothing of this machine goes into a Job", async () => {
  api.behaviour.program = saying(0, ...result({}, "done"));
  const standby = "postgresql://postgres:top-secret@standby:5432/postgres";
  await pgkit(`backup base --instance a --in-kubernetes --standby ${standby}`);
  const { job } = onlyJob();
  expect(JSON.stringify(job)).not.toContain("top-secret");
  expect(job["spec"]).toMatchObject({
    template: {
      spec: {
        containers: [{ args: expect.arrayContaining(["--standby=postgresql://postgres@standby:5432/postgres"]) }],
      },
    },
  });
  for (const [flags, message] of [
    ["backup logical --repository /backups", "is a folder of this machine"],
    ["restore --data-dir /srv/x", "--data-dir is a directory of this machine"],
  ]) {
    const ran = await pgkit(`${flags} --instance a --in-kubernetes`);
    expect(ran).toMatchObject({ status: 2, stderr: expect.stringContaining(message ?? "") });
  }
  expect(jobs).toHaveLength(1);
});

test("--detach leaves the Job to itself, for people to read", async () => {
  api.behaviour.program = saying(0);
  const ran = await pgkit("backup logical --instance a --in-kubernetes --detach");
  const { job, pod } = onlyJob();
  expect(ran).toMatchObject({ status: 0, stdout: expect.stringContaining(`logs -f job/${job.metadata.name}`) });
  expect(pod.container?.args).toEqual(["backup", "logical", "--instance=a"]);
});

test("Ctrl-C ends the Job before it ends pgkit", async () => {
  const begun = Promise.withResolvers<void>();
  const stopped: unknown[] = [];
  api.behaviour.program = async ({ signal }) => {
    begun.resolve();
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    stopped.push(signal.reason);
    return 130;
  };
  let press: (name: string) => void = () => undefined;
  const onStart = (outside: { signal(name: string): void }) => {
    press = outside.signal;
  };
  const running = pgkit("backup logical --instance a --in-kubernetes", { onStart });
  await begun.promise;
  press("SIGINT");
  const ran = await running;
  expect(ran.status).toBe(130);
  expect(ran.stderr).toMatch(/ending Job (\S+)\nJob \1 has ended\n/);
  expect(stopped).toEqual(["TERM"]);
  await eventually(() => expect(api.read("Job", "databases", onlyJob().job.metadata.name)).toBeUndefined());
});

test("without a CronJob the Pod is as the configuration has it, and a cluster without pgkit is told as that", async () => {
  api.behaviour.program = saying(0, ...result({}, "done"));
  const ran = await pgkit("backup logical --instance b --in-kubernetes");
  expect(ran.status, ran.stderr).toBe(0);
  expect(ran.stderr).toMatch(
    /there is no CronJob databases\/pgkit-logical-b: a Pod as .*pgkit.yaml would have it is started/,
  );
  expect(onlyJob().pod.container).toMatchObject({ image: "pgkit:1", args: expect.arrayContaining(["--instance=b"]) });
  api.remove("ServiceAccount", "databases", "pgkit-logical");
  expect(await pgkit("backup logical --instance b --in-kubernetes")).toMatchObject({
    status: 10,
    stderr: expect.stringMatching(/there is no ServiceAccount databases\/pgkit-logical .*\nhint: .*pgkit manifests \|/),
  });
});

test("the Role of the docs is enough, and each of its verbs is named where it is missing", async () => {
  api.behaviour.program = saying(0, ...result({}, "done"));
  const docs = await readFile(new URL("../../docs/kubernetes.md", import.meta.url), "utf8");
  const role = parse(/```yaml\n(apiVersion: rbac[\s\S]*?)```/.exec(docs)?.[1] ?? "") as { rules: Rule[] };
  const ran = await pgkit("backup logical --instance a --in-kubernetes", { rules: role.rules });
  expect(ran.status, ran.stderr).toBe(0);
  for (const [index, { resources, verbs }] of role.rules.entries()) {
    // Those of jobs that only Ctrl-C needs.
    for (const verb of verbs.filter((each) => each !== "delete" && !(each === "get" && resources[0] === "jobs"))) {
      const rules = role.rules.map((rule, at) =>
        at === index ? { ...rule, verbs: rule.verbs.filter((each) => each !== verb) } : rule,
      );
      const poor = await pgkit("backup logical --instance a --in-kubernetes", { rules });
      expect(poor.status, `${verb} ${resources}`).toBe(12);
      expect(poor.stderr).toContain(`resources: [${resources[0]}], verbs: [${verb}]`);
    }
  }
  api.fail({ verb: "create", resource: "jobs", does: { answer: 403 } });
  expect(await pgkit("backup logical --instance a --in-kubernetes")).toMatchObject({
    status: 12,
    stderr: expect.stringContaining("a quota, an admission policy or an ending namespace refuses it"),
  });
});
