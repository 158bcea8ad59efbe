import { afterAll, beforeAll, expect, test } from "vitest";
import { applicationUrl } from "../move/support.ts";
import type { Obj } from "../support/kube-api/objects.ts";
import { type KubeApi, startKubeApi } from "../support/kube-api/server.ts";
import { type MoveStory, startStory } from "./move-support.ts";

const namespace = "litellm";
let api: KubeApi;
let story: MoveStory;
/** What the application's Pod has in its environment: as the Secret was when it began. */
let url = "";

beforeAll(async () => {
  api = await startKubeApi();
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  api.onChange((object) => {
    if (object.kind === "Deployment" && api.behaviour.rollout(object) === "ready") url = secretUrl();
  });
  story = await startStory({
    url: () => url,
    switch: async (_, { source }) => {
      const stringData = { DATABASE_URL: applicationUrl(source, "litellm"), OTHER: "stays" };
      api.put({ apiVersion: "v1", kind: "Secret", metadata: { name: "litellm-db", namespace }, stringData });
      api.put(deployment());
      return [`secret: { namespace: ${namespace}, name: litellm-db, keys: { url: DATABASE_URL } }`];
    },
  });
});
afterAll(async () => {
  await story[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
});

function deployment(): Obj {
  const labels = { app: "litellm" };
  const from = { secretKeyRef: { name: "litellm-db", key: "DATABASE_URL" } };
  const containers = [{ name: "app", image: "litellm", env: [{ name: "DATABASE_URL", valueFrom: from }] }];
  const spec = {
    replicas: 1,
    selector: { matchLabels: labels },
    template: { metadata: { labels }, spec: { containers } },
  };
  return { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "litellm", namespace, generation: 1 }, spec };
}

function secretUrl(): string {
  const data = (api.read("Secret", namespace, "litellm-db")?.["data"] ?? {}) as Record<string, string>;
  return Buffer.from(data["DATABASE_URL"] ?? "", "base64").toString("utf8");
}

async function pgkit(...args: string[]) {
  return await story.pgkit.run(args, { env: { PGKIT_KUBECONFIG: await api.kubeconfig() } });
}

const portOf = (text: string) => Number(new URL(text).port);

test("an application that reads its Secret is moved and moved back, and all that it wrote is there once", async () => {
  const writer = story.startWriter("there-and-back");
  await writer.more(5);
  expect((await pgkit("move", "litellm", "--to", "dedicated")).stderr).toContain(
    "restarting Deployment litellm/litellm",
  );
  expect(portOf(url)).toBe(story.target.port);
  await writer.more(20);
  expect(await pgkit("move", "rollback", "litellm")).toMatchObject({ status: 0 });
  expect(portOf(url)).toBe(story.source.port);
  await writer.more(5);
  await story.expectAll([writer], "source");
});

test("where the application never becomes ready the move goes back by itself, names why, and loses nothing", async () => {
  const writer = story.startWriter("never-ready");
  await writer.more(5);
  const isThere = (workload: Obj) => JSON.stringify(workload["spec"]).includes(`:${story.target.port}/litellm`);
  api.behaviour.rollout = (workload) => (isThere(workload) ? "stuck" : "ready");
  const waiting = { reason: "CrashLoopBackOff", message: "back-off 10s restarting failed container" };
  const metadata = { name: "litellm-7d9f-x2x", namespace, labels: { app: "litellm" } };
  const containerStatuses = [{ name: "app", ready: false, state: { waiting } }];
  api.put({ apiVersion: "v1", kind: "Pod", metadata, status: { phase: "Running", containerStatuses } });
  const ran = await pgkit("move", "litellm", "--to", "dedicated", "--rollout-timeout", "1s");
  expect(ran.status).toBe(50);
  expect(ran.stderr).toContain("went back to shared by itself: Deployment litellm/litellm did not become ready");
  expect(ran.stderr).toContain("litellm-7d9f-x2x: CrashLoopBackOff");
  expect(portOf(secretUrl())).toBe(story.source.port);
  await writer.more(5);
  const { stdout } = await pgkit("move", "status", "litellm", "--json");
  expect(JSON.parse(stdout)).toMatchObject({ state: "rolled-back" });
  await story.expectAll([writer], "source");
});
