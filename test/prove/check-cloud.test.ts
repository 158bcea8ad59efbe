import { beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { openStore, type StorageConfig } from "../../src/store/open.ts";
import { keysOf, repositoryIn } from "../repo/support.ts";
import { type AzureServer, startAzurite } from "../support/azurite.ts";
import { type S3Server, startS3 } from "../support/s3.ts";
import { checkedStore } from "./support.ts";

let s3: S3Server;
let azure: AzureServer;

beforeAll(async () => {
  s3 = await startS3("old");
  azure = await startAzurite();
});

async function onS3(bucket: string, more: { storage?: StorageConfig; objectLockMs?: number; offMs?: number } = {}) {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3;
  const storage = { endpoint, region, pathStyle: true, accessKeyId, secretAccessKey, ...more.storage };
  const url = `s3://${bucket}/some/where`;
  const clock = { ...systemClock, now: () => new Date(Date.now() + (more.offMs ?? 0)) };
  const store = await openStore(url, storage, { clock });
  return { store, result: await checkedStore(store, { url, storage, objectLockMs: more.objectLockMs }, { clock }) };
}

describe("pgkit check of a bucket", () => {
  it("proves what Ceph really keeps, and leaves nothing behind", async () => {
    const { store, result } = await onS3(await s3.newBucket());
    expect(result.problems()).toEqual([expect.stringMatching(/^encryption: backups are not encrypted/)]);
    expect(result.of("objects")).toMatchObject([
      { message: expect.stringContaining("5.0 MiB were stored, read back and listed") },
    ]);
    expect(result.of("conditional writes")).toMatchObject([{ level: "ok" }]);
    expect(result.of("checksum")).toMatchObject([{ message: "what is stored is proven by the store's own md5" }]);
    expect(await keysOf(store)).toEqual([]);
    await repositoryIn(store);
    const again = await checkedStore(store, { url: "s3://again" });
    expect(again.of("uploads")).toMatchObject([{ level: "ok" }]);
    expect(again.of("leases")).toMatchObject([{ level: "ok" }]);
  });

  it("tells a bucket that locks objects from one that does not", async () => {
    const objectLockMs = 86_400_000;
    const without = await onS3(await s3.newBucket(), { objectLockMs });
    expect(without.result.of("object lock")).toMatchObject([
      { level: "error", remedy: expect.stringContaining("new bucket") },
    ]);
    expect(without.result.status).toBe(13);
    const locking = await onS3(await s3.newBucket({ objectLock: true }), { objectLockMs });
    expect(locking.result.of("object lock")).toMatchObject([{ level: "ok" }]);
    expect(await keysOf(locking.store)).toEqual([]);
  });

  it("sees by the server's answers that this machine's clock is wrong", async () => {
    const bucket = await s3.newBucket();
    const behind = await onS3(bucket, { offMs: -120_000 });
    expect(behind.result.of("clock")).toMatchObject([
      { level: "warning", message: expect.stringMatching(/2m|119 s|1m 5\ds/) },
    ]);
    const ahead = await onS3(bucket, { offMs: 400_000 });
    expect(ahead.result.of("clock")).toMatchObject([{ level: "error", message: expect.stringContaining("ahead of") }]);
  });

  it("names a bucket that is not there, keys without rights, and a server that does not answer", async () => {
    const missing = await onS3("no-such-bucket");
    expect(missing.result.status).toBe(10);
    expect(missing.result.of("repository")).toMatchObject([
      { level: "error", remedy: expect.stringContaining("create the bucket") },
    ]);
    const denied = await onS3(await s3.newBucket(), { storage: s3.denied });
    expect(denied.result.status).toBe(12);
    const away = await onS3("any", { storage: { endpoint: "http://127.0.0.1:9" } });
    expect(away.result.status).toBe(13);
    for (const { result } of [missing, denied, away]) {
      expect(result.bugs).toEqual([]);
      expect(JSON.stringify(result.findings)).not.toContain(s3.secretAccessKey);
    }
  });
});

it("pgkit check of a container on Azure proves it, and leaves nothing behind", async () => {
  const container = await azure.newContainer();
  const storage = { endpoint: azure.endpoint, accountKey: azure.key };
  const url = `azure://${azure.account}/${container}/here`;
  const store = await openStore(url, storage);
  const result = await checkedStore(store, { url, storage });
  expect(result.problems()).toEqual([expect.stringMatching(/^encryption: backups are not encrypted/)]);
  expect(result.of("conditional writes")).toMatchObject([{ level: "ok" }]);
  expect(await keysOf(store)).toEqual([]);
  const elsewhere = await openStore(`azure://${azure.account}/no-such-container/here`, storage);
  expect((await checkedStore(elsewhere, { url, storage })).status).toBe(10);
});
