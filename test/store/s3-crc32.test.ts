import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { crc32 } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { crcText } from "../../src/store/s3/checksum.ts";
import { s3Store } from "../../src/store/s3.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { startS3 } from "../support/s3.ts";
import { failsWith } from "./conformance.ts";
import { type Answer, type Fate, type Passing, type StoreProxy, startProxy } from "./proxy.ts";

const megabyte = 1024 * 1024;

/**
 * The Ceph releases that tests run on know no CRC32, so what Amazon documents of it is played by a proxy before one: a
 * wrong one is refused, a right one given back, and for an upload in parts the whole object's is checked at completion.
 */
describe("a server that keeps a CRC32 of whole objects", () => {
  let proxy: StoreProxy;
  let store: ObjectStore;
  let spoil = (_body: Buffer): Buffer => _body;

  beforeAll(async () => {
    const server = await startS3("old");
    const keeper = crcKeeper((body) => spoil(body));
    proxy = await startProxy(server.endpoint, keeper);
    const { region, accessKeyId, secretAccessKey } = server;
    const credentials = { accessKeyId, secretAccessKey };
    const bucket = await server.newBucket();
    store = s3Store({ bucket, region, endpoint: proxy.endpoint, pathStyle: true, credentials, attempts: 1 });
  });
  afterAll(() => proxy.close());

  it("is found out, and proves what is stored in one request and in parts", async () => {
    expect((await store.capabilities()).checksum).toBe("crc32");
    expect((await store.put("small", Buffer.from("1"))).proven).toBe(true);
    expect((await store.put("empty", Buffer.alloc(0))).proven).toBe(true);
    const large = Readable.from([randomBytes(12 * megabyte)], { objectMode: false });
    expect((await store.put("large", large)).proven).toBe(true);
    const last = proxy.seen.findLast(({ method, url }) => method === "POST" && url.includes("uploadId="));
    expect(last?.headers).toMatchObject({ "x-amz-checksum-type": "FULL_OBJECT" });
    expect(proxy.seen.some(({ url, headers }) => url.includes("/small") && headers["content-md5"])).toBe(false);
  });

  it("refuses bytes that were changed on their way, and nothing is stored", async () => {
    await store.capabilities();
    spoil = (body) => Buffer.concat([body.subarray(0, -1), Buffer.from([(body.at(-1) ?? 0) ^ 1])]);
    await failsWith("store-failed", store.put("spoiled", Buffer.from("some bytes")));
    await failsWith("store-failed", store.put("spoiled", randomBytes(6 * megabyte)));
    spoil = (body) => body;
    expect(await store.head("spoiled")).toBeUndefined();
  });
});

function crcKeeper(arrives: (body: Buffer) => Buffer): (passing: Passing) => Fate {
  const objects = new Map<string, string>();
  const uploads = new Map<string, Map<number, Buffer>>();
  const bad: Fate = { answer: { status: 400, body: "<Error><Code>BadDigest</Code></Error>" } };
  const giving = (value: string): Fate => ({
    change: (answer) => ({ ...answer, headers: { ...answer.headers, "x-amz-checksum-crc32": value } }),
  });
  return (passing) => {
    const { method, headers } = passing;
    const url = new URL(passing.url, "http://x");
    const [number, upload] = [Number(url.searchParams.get("partNumber")), url.searchParams.get("uploadId")];
    const sent = headers["x-amz-checksum-crc32"];
    if (method === "HEAD" && headers["x-amz-checksum-mode"] === "ENABLED") {
      const kept = objects.get(url.pathname);
      return kept === undefined ? undefined : giving(kept);
    }
    if (typeof sent !== "string") return undefined;
    if (method === "POST" && upload !== null) {
      const parts = [...(uploads.get(upload) ?? [])].sort(([a], [b]) => a - b).map(([, body]) => body);
      const whole = crcText(crc32(Buffer.concat(parts)));
      if (headers["x-amz-checksum-type"] !== "FULL_OBJECT" || whole !== sent) return bad;
      objects.set(url.pathname, whole);
      return { change: (answer) => withChecksum(answer, whole) };
    }
    const body = arrives(passing.body);
    if (crcText(crc32(body)) !== sent) return bad;
    if (upload === null) objects.set(url.pathname, sent);
    else uploads.set(upload, (uploads.get(upload) ?? new Map<number, Buffer>()).set(number, body));
    return giving(sent);
  };
}

function withChecksum(answer: Answer, value: string): Answer {
  const end = "</CompleteMultipartUploadResult>";
  const body = Buffer.from(answer.body.toString().replace(end, `<ChecksumCRC32>${value}</ChecksumCRC32>${end}`));
  const { "content-length": _, "transfer-encoding": __, ...headers } = answer.headers;
  return { ...answer, headers: { ...headers, "content-length": body.length }, body };
}
