import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { afterEach, describe, expect, it } from "vitest";
import { readAll } from "../../src/store/body.ts";
import { retryStore } from "../../src/store/retry.ts";
import type { S3StoreConfig } from "../../src/store/s3/config.ts";
import { s3Store } from "../../src/store/s3.ts";
import { startS3 } from "../support/s3.ts";
import { all, failsWith } from "./outcome.ts";
import { type Fate, type Passing, type StoreProxy, startProxy } from "./proxy.ts";

const megabyte = 1024 * 1024;
const proxies: StoreProxy[] = [];

afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.close();
});

/** A store on a real server, behind a proxy that lets pass what `fate` says; probes pass, unless it says otherwise. */
async function behindProxy(fate: (passing: Passing) => Fate, config: Partial<S3StoreConfig> = {}) {
  const server = await startS3("old");
  const bucket = await server.newBucket();
  const proxy = await startProxy(server.endpoint, fate);
  proxies.push(proxy);
  const { region, accessKeyId, secretAccessKey } = server;
  const settings = { bucket, region, pathStyle: true, credentials: { accessKeyId, secretAccessKey } };
  const store = s3Store({ ...settings, endpoint: proxy.endpoint, ...config });
  const direct = s3Store({ ...settings, endpoint: server.endpoint });
  return { store, direct, proxy, bucket, server };
}

/** Does `what` with the first request that `which` is true of, and lets the others pass. */
function first(which: (passing: Passing) => boolean, what: Fate, times = 1): (passing: Passing) => Fate {
  let left = times;
  return (passing) => {
    if (left === 0 || !which(passing)) return undefined;
    left -= 1;
    return what;
  };
}

const isPutOf = (key: string) => (passing: Passing) => passing.method === "PUT" && passing.url.includes(`/${key}`);
const isComplete = ({ method, url }: Passing) => method === "POST" && url.includes("uploadId=");

describe("an answer that is lost", () => {
  it("does not make a writer lose against itself when it creates only if absent", async () => {
    const { store, direct, proxy } = await behindProxy(first(isPutOf("lease"), "lose-reply"));
    const stored = await store.put("lease", Buffer.from("mine"), { when: "absent" });
    expect(stored).toMatchObject({ bytes: 4, proven: "store-checksum" });
    expect(stored.etag).toBe((await direct.head("lease"))?.etag);
    expect(proxy.seen.filter(isPutOf("lease"))).toHaveLength(2);
    await failsWith("condition-failed", store.put("lease", Buffer.from("mine"), { when: "absent" }));
  });

  it("does not let a writer take another's object for its own", async () => {
    const { store, direct } = await behindProxy(
      (passing) => {
        if (!isPutOf("lease")(passing)) return undefined;
        return { answer: { status: 503, body: "" } };
      },
      { attempts: 2 },
    );
    await direct.put("lease", Buffer.from("theirs"));
    await failsWith("store-failed", store.put("lease", Buffer.from("theirs"), { when: "absent" }));
    const late = await behindProxy(first(isPutOf("lease"), { answer: { status: 500 } }));
    await late.direct.put("lease", Buffer.from("theirs"));
    await failsWith("condition-failed", late.store.put("lease", Buffer.from("theirs"), { when: "absent" }));
  });

  it("does not make an upload in parts fail when it was completed, nor abort what is stored", async () => {
    const { store, direct } = await behindProxy(first(isComplete, "lose-reply"));
    const content = randomBytes(11 * megabyte);
    const stored = await store.put("large", Readable.from([content], { objectMode: false }));
    expect(stored).toMatchObject({ bytes: content.length, proven: "store-checksum" });
    expect((await readAll(await direct.get("large"))).equals(content)).toBe(true);
  });

  it("of a removal is asked for again", async () => {
    const { store, direct } = await behindProxy(first(({ url }) => url.includes("?delete"), "lose-reply"));
    await store.put("a", Buffer.from("1"));
    await store.delete(["a"]);
    expect(await direct.head("a")).toBeUndefined();
  });
});

describe("a server in trouble", () => {
  it("is asked again, each part too, and each request only as often as configured", async () => {
    const busy: Fate = { answer: { status: 503, body: "<Error><Code>SlowDown</Code></Error>" } };
    const part2 = ({ method, url }: Passing) => method === "PUT" && url.includes("partNumber=2");
    const { store } = await behindProxy(first(part2, busy, 1));
    const content = randomBytes(11 * megabyte);
    await store.put("large", content);
    expect((await readAll(await store.get("large"))).equals(content)).toBe(true);
    const stubborn = await behindProxy(
      ({ url }) => (url.includes("partNumber=2") ? { answer: { status: 500 } } : undefined),
      {
        attempts: 3,
      },
    );
    await failsWith("store-failed", stubborn.store.put("large", content));
    expect(stubborn.proxy.seen.filter(part2)).toHaveLength(3);
    expect(await stubborn.direct.head("large")).toBeUndefined();
    for await (const upload of stubborn.direct.uploads?.list() ?? []) expect(upload).toBeUndefined();
  });

  it("that says nothing is given up on, with the bucket and the endpoint named", async () => {
    const { store, proxy, bucket } = await behindProxy(() => "hang", { idleTimeoutMs: 300 });
    const error = await failsWith("store-unreachable", store.get("a"));
    expect(error.message).toContain(bucket);
    expect(error.message).toContain(proxy.endpoint);
    expect(error.hint).toContain("did not answer in time");
    expect(proxy.seen).toHaveLength(3);
  });

  const isGet = ({ method, url }: Passing) => method === "GET" && url.includes("/object");

  it("that closes the connection in the middle of a body fails it", async () => {
    const { store } = await behindProxy((passing) => (isGet(passing) ? { cutAfter: 100_000 } : undefined));
    await store.put("object", randomBytes(megabyte));
    const error = await failsWith("store-failed", readAll(await store.get("object")));
    expect(error.message).toMatch(/object .*was cut after \d+ of 1048576 bytes/);
  });

  it("that stops sending in the middle of a body fails it, while a reader may take its time", async () => {
    let stalls = true;
    const fate = (passing: Passing): Fate => (isGet(passing) && stalls ? { stallAfter: 100_000 } : undefined);
    const { store } = await behindProxy(fate, { idleTimeoutMs: 500 });
    await store.put("object", randomBytes(megabyte));
    await failsWith("store-failed", readAll(await store.get("object")));
    stalls = false;
    const slow = retryStore(store, { what: "bodies", baseMs: 1 });
    let [bytes, waits] = [0, 0];
    for await (const chunk of await slow.get("object")) {
      bytes += chunk.length;
      if (waits++ < 2) await new Promise((resolve) => setTimeout(resolve, 1_200));
    }
    expect(bytes).toBe(megabyte);
  });

  it("that takes conditions back with 409 while others write is asked again", async () => {
    const conflict: Fate = { answer: { status: 409, body: "<Error><Code>ConditionalRequestConflict</Code></Error>" } };
    const { store, proxy } = await behindProxy(first(isPutOf("lease"), conflict, 2));
    await store.put("lease", Buffer.from("mine"), { when: "absent" });
    expect(proxy.seen.filter(isPutOf("lease"))).toHaveLength(3);
  });
});

describe("a body cut on its way", () => {
  const isGet = ({ method, url }: Passing) => method === "GET" && url.includes("/object");

  it("goes on from the byte reached", async () => {
    const { store, proxy } = await behindProxy(first(isGet, { cutAfter: 300_000 }, 3));
    const content = randomBytes(megabyte);
    await store.put("object", content);
    const patient = retryStore(store, { what: "bodies", baseMs: 1 });
    expect((await readAll(await patient.get("object"))).equals(content)).toBe(true);
    const starts = proxy.seen.filter(isGet).map(({ headers }) => Number(/bytes=(\d+)-/.exec(headers.range ?? "")?.[1]));
    expect(starts).toHaveLength(4);
    expect(starts.slice(1)).toEqual(starts.slice(1).sort((a, b) => a - b));
    expect(starts[3]).toBeGreaterThan(500_000);
    const range = { first: 10, last: 1_000_000 };
    const part = await readAll(await patient.get("object", { range }));
    expect(part.equals(content.subarray(10, 1_000_001))).toBe(true);
  });

  it("never goes on with another version", async () => {
    const { store, direct } = await behindProxy(first(isGet, { cutAfter: 300_000 }, 1));
    await store.put("object", Buffer.alloc(megabyte, "1"));
    const body = await retryStore(store, { what: "bodies", baseMs: 1 }).get("object");
    await direct.put("object", Buffer.alloc(megabyte, "2"));
    const error = await failsWith("condition-failed", readAll(body));
    expect(error.message).toContain("changed by another");
  });
});

describe("servers of other makes", () => {
  it("that give short pages are listed to the end", async () => {
    const { store } = await behindProxy(({ method, url }) =>
      method === "GET" && url.includes("list-type=2") && !url.includes("continuation-token")
        ? { answer: { status: 200, body: shortPage } }
        : undefined,
    );
    expect((await all(store.list(""))).map((found) => found.key)).toEqual(["a"]);
  });

  const shortPage = `<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated>
    <NextContinuationToken>zzz</NextContinuationToken><Contents><Key>a</Key><Size>1</Size><ETag>"x"</ETag>
    <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>`;

  it("that say their list goes on but not where do not make it end too early", async () => {
    const page = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    const { store } = await behindProxy(() => ({ answer: { status: 200, body: page } }));
    await failsWith("store-failed", all(store.list("")));
  });

  it("that want Content-MD5 on the removal of several get it, and no other checksum", async () => {
    const { store, proxy } = await behindProxy(({ url, headers }) =>
      url.includes("?delete") && (headers["content-md5"] === undefined || headers["x-amz-checksum-crc32"] !== undefined)
        ? { answer: { status: 400, body: "<Error><Code>InvalidRequest</Code></Error>" } }
        : undefined,
    );
    await store.put("a", Buffer.from("1"));
    await store.delete(["a", "b"]);
    expect(proxy.seen.some(({ url }) => url.includes("?delete"))).toBe(true);
    expect(await all(store.list(""))).toEqual([]);
  });

  it("that cannot remove several at once are asked one by one", async () => {
    const { store } = await behindProxy(({ url }) =>
      url.includes("?delete")
        ? { answer: { status: 501, body: "<Error><Code>NotImplemented</Code></Error>" } }
        : undefined,
    );
    await store.put("a", Buffer.from("1"));
    await store.put("b", Buffer.from("1"));
    await store.delete(["a", "b", "c"]);
    expect(await all(store.list(""))).toEqual([]);
  });

  it("that take a lock's headers and forget them are not believed, and keep nothing unlocked", async () => {
    const enabled = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
    const { store } = await behindProxy((passing) => {
      if (passing.url.includes("?object-lock")) return { answer: { status: 200, body: enabled } };
      // The signature does not cover what is not sent on, so that the server stores it as any other object.
      if (passing.headers["x-amz-object-lock-mode"] === undefined) return undefined;
      return { answer: { status: 200, headers: { etag: '"x"' } } };
    });
    const retainUntil = new Date(Date.now() + 60_000);
    await failsWith("store-unsupported", store.put("a", Buffer.from("1"), { retainUntil }));
    expect(await store.head("a")).toBeUndefined();
    expect((await store.capabilities()).objectLock).toBe(false);
  });

  it("that ignore conditions are found out, and asked for none", async () => {
    const { store } = await behindProxy((passing) => {
      if (passing.headers["if-none-match"] === undefined) return undefined;
      return { answer: { status: 200, headers: { etag: '"x"' } } };
    });
    expect((await store.capabilities()).createIfAbsent).toBe(false);
    await failsWith("store-unsupported", store.put("a", Buffer.from("1"), { when: "absent" }));
    expect(await store.head("a")).toBeUndefined();
  });

  it("that only echo a checksum prove nothing", async () => {
    const { store } = await behindProxy((passing) => {
      const { "x-amz-checksum-crc32": crc, "content-md5": md5 } = passing.headers;
      if (passing.method !== "PUT" || (crc === undefined && md5 === undefined)) return undefined;
      const etag = Buffer.from(String(md5 ?? ""), "base64").toString("hex");
      const echoed = { etag: `"${etag}"`, ...(crc === undefined ? {} : { "x-amz-checksum-crc32": crc }) };
      return { answer: { status: 200, headers: echoed } };
    });
    expect((await store.capabilities()).checksum).toBe("none");
    expect((await store.put("a", Buffer.from("1"))).proven).toBe(false);
  });

  it("that refuse a body whose checksum comes after it never see one", async () => {
    const { store, proxy } = await behindProxy(() => undefined);
    await store.put("a", Readable.from([Buffer.from("1")]));
    await store.put("large", randomBytes(6 * megabyte));
    for (const { headers } of proxy.seen) {
      expect(headers).not.toHaveProperty("x-amz-trailer");
      expect(headers).not.toHaveProperty("transfer-encoding");
    }
  });

  it("that ignore ranges never have their first bytes taken for others", async () => {
    const { store } = await behindProxy(({ method, headers }) =>
      method === "GET" && headers.range !== undefined
        ? { answer: { status: 200, body: "0123456789", headers: { etag: '"x"' } } }
        : undefined,
    );
    await failsWith("store-failed", store.get("a", { range: { first: 3, last: 5 } }));
  });

  it("that answer 404 without being an S3 server do not make an object missing", async () => {
    const { store } = await behindProxy(() => ({ answer: { status: 404, body: "<html>nothing here</html>" } }));
    await failsWith("store-failed", store.head("a"));
    await failsWith("store-failed", store.get("a"));
  });
});
