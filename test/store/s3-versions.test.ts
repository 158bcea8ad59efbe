import { ListObjectVersionsCommand } from "@aws-sdk/client-s3";
import { describe, expect, it } from "vitest";
import { s3Store } from "../../src/store/s3.ts";
import { startS3 } from "../support/s3.ts";
import { failsWith } from "./outcome.ts";

async function open(options: { objectLock?: boolean; versioning?: boolean }) {
  const server = await startS3("old");
  const bucket = await server.newBucket(options);
  const { endpoint, region, accessKeyId, secretAccessKey, client } = server;
  const store = () =>
    s3Store({ bucket, region, endpoint, pathStyle: true, credentials: { accessKeyId, secretAccessKey } });
  /** How many versions and markers of removal the bucket holds. */
  const kept = async () => {
    const { Versions = [], DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
    return { versions: Versions.length, markers: DeleteMarkers.length };
  };
  return { store, kept };
}

describe("a bucket with versions", () => {
  it("keeps them when an object is removed, as its owner wishes", async () => {
    const { store, kept } = await open({ versioning: true });
    await store().put("a", Buffer.from("1"));
    await store().put("a", Buffer.from("2"));
    await store().delete(["a", "never-there"]);
    await store().delete(["never-there", "nor-there"]);
    expect(await store().head("a")).toBeUndefined();
    expect(await kept()).toEqual({ versions: 2, markers: 1 });
  });

  it("is left as it was found by the probes", async () => {
    const { store, kept } = await open({ objectLock: true });
    await store().capabilities();
    expect(await kept()).toEqual({ versions: 0, markers: 0 });
  });
});

describe("a bucket with object lock", () => {
  it("has nothing removed when one of the objects named is locked", async () => {
    const { store } = await open({ objectLock: true });
    await store().put("free", Buffer.from("1"));
    await store().put("locked", Buffer.from("1"), { retainUntil: new Date(Date.now() + 3_600_000) });
    const error = await failsWith("store-denied", store().delete(["free", "locked"]));
    expect(error.message).toContain("locked in s3://");
    expect((await store().head("free"))?.bytes).toBe(1);
    expect((await store().head("locked"))?.bytes).toBe(1);
  });

  it("has an object's space freed once its lock has run out, older versions with it", async () => {
    const { store, kept } = await open({ objectLock: true });
    const retainUntil = new Date(Date.now() + 3_000);
    await store().put("a", Buffer.from("1"), { retainUntil });
    await store().put("a", Buffer.from("2"), { retainUntil });
    await store().put("ab", Buffer.from("another"));
    await expect
      .poll(
        () =>
          store()
            .delete(["a"])
            .then(() => "removed", String),
        { timeout: 20_000 },
      )
      .toBe("removed");
    expect(await store().head("a")).toBeUndefined();
    expect(await kept()).toEqual({ versions: 1, markers: 0 });
  });

  it("is refused where the bucket has none, before anything is written", async () => {
    const { store, kept } = await open({ versioning: true });
    const retainUntil = new Date(Date.now() + 3_600_000);
    await failsWith("store-unsupported", store().put("a", Buffer.from("1"), { retainUntil }));
    expect(await kept()).toEqual({ versions: 0, markers: 0 });
  });
});

describe("uploads that were never completed", () => {
  it("are listed and aborted by their age and place", async () => {
    const { CreateMultipartUploadCommand } = await import("@aws-sdk/client-s3");
    const server = await startS3("old");
    const Bucket = await server.newBucket();
    for (const Key of ["in/a", "in/b", "outside"])
      await server.client.send(new CreateMultipartUploadCommand({ Bucket, Key }));
    const { endpoint, region, accessKeyId, secretAccessKey } = server;
    const credentials = { accessKeyId, secretAccessKey };
    const { uploads } = s3Store({ bucket: Bucket, prefix: "in", region, endpoint, pathStyle: true, credentials });
    const keys = async () => {
      const found: string[] = [];
      for await (const { key } of uploads?.list() ?? []) found.push(key);
      return found.sort();
    };
    expect(await keys()).toEqual(["a", "b"]);
    expect(await uploads?.abort(new Date(Date.now() - 3_600_000))).toBe(0);
    expect(await uploads?.abort(new Date(Date.now() + 3_600_000), { prefix: "a" })).toBe(1);
    expect(await keys()).toEqual(["b"]);
    expect(await uploads?.abort(new Date(Date.now() + 3_600_000))).toBe(1);
    const all = s3Store({ bucket: Bucket, region, endpoint, pathStyle: true, credentials });
    for await (const { key } of all.uploads?.list() ?? []) expect(key).toBe("outside");
  });
});
