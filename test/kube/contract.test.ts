import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import { openKube } from "../../src/kube/open.ts";
import { systemClock } from "../../src/lib/time.ts";
import { runProcess } from "../support/kube-api/process.ts";
import { startKubeApi } from "../support/kube-api/server.ts";
import { type ContractWorld, kubeContract } from "./contract.ts";

const deps = { clock: systemClock, report: () => undefined };

kubeContract("of the tests", async (): Promise<ContractWorld> => {
  const api = await startKubeApi();
  api.behaviour.program = runProcess;
  const namespace = "contract";
  api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  return {
    namespace,
    kube: await openKube({ kubeconfig: await api.kubeconfig(), env: {} }, deps),
    powerless: await openKube({ kubeconfig: await api.kubeconfig("nobody", {}), env: {} }, deps),
    images: { pause: "pause", shell: "sh", absent: "registry.example/there-is-none:1" },
    pullMs: 300,
    close: () => api[Symbol.asyncDispose](),
  };
});

// A cluster of whoever runs this: docs/kubernetes-testing.md.
const kubeconfig = process.env["PGKIT_TEST_KUBECONFIG"];
if (kubeconfig !== undefined) kubeContract(`by ${kubeconfig}`, () => realCluster(kubeconfig));

async function realCluster(path: string): Promise<ContractWorld> {
  const { signal } = new AbortController();
  const kube = await openKube({ kubeconfig: path, env: {} }, deps);
  const namespace = `pgkit-test-${systemClock.random().toString(36).slice(2, 8)}`;
  await kube.create({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } }, signal);
  const folder = await mkdtemp(join(tmpdir(), "pgkit-contract-"));
  const config = parse(await readFile(path, "utf8"));
  for (const { user } of config.users) user.as = `system:serviceaccount:${namespace}:nobody`;
  const powerless = join(folder, "powerless.kubeconfig");
  await writeFile(powerless, JSON.stringify(config), { mode: 0o600 });
  return {
    namespace,
    kube,
    powerless: await openKube({ kubeconfig: powerless, env: {} }, deps),
    images: {
      pause: process.env["PGKIT_TEST_PAUSE_IMAGE"] ?? "registry.k8s.io/pause:3.10",
      shell: process.env["PGKIT_TEST_SHELL_IMAGE"] ?? "busybox:1.37",
      absent: "localhost/pgkit-there-is-none:1",
    },
    pullMs: 30_000,
    async close() {
      await kube.delete({ apiVersion: "v1", kind: "Namespace", name: namespace }, {}, signal);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
