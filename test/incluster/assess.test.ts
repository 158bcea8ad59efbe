import { describe, expect, test } from "vitest";
import { assess, type Findings } from "../../src/incluster/assess.ts";
import { quantityBytes } from "../../src/incluster/claim.ts";

const volume = {
  ...{ container: "postgresql", image: "bitnami/postgresql:15", claim: "data-pg-0", user: 1001, isRoot: false },
  ...{ mountPath: "/bitnami/postgresql", dataDir: "/bitnami/postgresql/data" },
};

const findings = (more: Partial<Findings> = {}, restore: Partial<Findings["restore"]> = {}): Findings => ({
  restore: {
    ...{ namespace: "databases", statefulSet: "pg", instance: "shared", volume },
    ...{ keepOld: "rename", overrideGitops: false },
    ...restore,
  },
  server: {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: { name: "pg", namespace: "databases" },
    spec: { replicas: 1 },
  },
  claim: {
    ...{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "data-pg-0", namespace: "databases" } },
    status: { capacity: { storage: "20Gi" } },
  },
  sync: { type: "none" },
  hasBaseJob: true,
  restoredBytes: 5 * 1024 ** 3,
  oldBytes: 5 * 1024 ** 3,
  tablespaces: [],
  inPlace: true,
  ...more,
});

const unknown = {
  type: "unknown",
  who: "ArgoCD application pg",
  because: "why",
  instruction: "argocd app set pg",
} as const;

describe("what speaks against a restore", () => {
  test("is nothing, where nothing does", () => expect(assess(findings())).toEqual([]));

  test.each<[string, Partial<Findings>, Partial<Findings["restore"]>, string]>([
    ["replicas", { server: { ...findings().server, spec: { replicas: 2 } } }, {}, "has 2 replicas"],
    ["no room for both", { restoredBytes: 11 * 1024 ** 3, oldBytes: 11 * 1024 ** 3 }, {}, "has 20.0 GiB"],
    ["no claim", { claim: undefined }, {}, "no volume claim"],
    ["no CronJob to run as", { hasBaseJob: false }, {}, "no CronJob for base backups"],
    ["tablespaces elsewhere", { tablespaces: ["/srv/fast"] }, {}, "/srv/fast"],
    ["a volume's root", {}, { volume: { ...volume, isRoot: true } }, "cannot be renamed"],
    ["GitOps that cannot be paused", { sync: unknown }, {}, "ArgoCD application pg manages"],
  ])("is refused: %s", (_, more, restore, message) => {
    expect(assess(findings(more, restore))).toMatchObject([
      { level: "refusal", message: expect.stringContaining(message), hint: expect.stringMatching(/./) },
    ]);
  });

  test("is no more than said, where it was overridden, or does not matter beside or for a snapshot", () => {
    expect(assess(findings({ sync: unknown }, { overrideGitops: true }))).toMatchObject([{ level: "warning" }]);
    const big = { restoredBytes: 11 * 1024 ** 3, oldBytes: 11 * 1024 ** 3 };
    expect(assess(findings(big, { keepOld: "snapshot", volume: { ...volume, isRoot: true } }))).toEqual([]);
    const replicas = { server: { ...findings().server, spec: { replicas: 3 } } };
    expect(assess(findings({ ...big, ...replicas, sync: unknown, inPlace: false }))).toEqual([]);
  });
});

test.each([
  ["20Gi", 20 * 1024 ** 3],
  ["1.5G", 1.5e9],
  ["100k", 1e5],
  ["8589934592", 8589934592],
  ["1e9", 1e9],
  ["2Ki", 2048],
])("%s is %d bytes", (text, bytes) => expect(quantityBytes(text)).toBe(bytes));
