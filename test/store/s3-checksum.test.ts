import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { s3Store } from "../../src/store/s3.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { startS3 } from "../support/s3.ts";
import { failsWith } from "./outcome.ts";
import { type StoreProxy, startProxy } from "./proxy.ts";

const megabyte = 1024 * 1024;

for (const [which, checksum] of [
  ["old", "md5"],
  ["newest", "crc32"],
] as const) {
  describe(`S3 with ${checksum}`, () => {
    let proxy: StoreProxy;
    let store: ObjectStore;
    let spoil: RegExp | undefined;

    beforeAll(async () => {
      const server = await startS3(which);
      // Bytes change on their way to the server, after the store has computed everything that it sends along.
      proxy = await startProxy(server.endpoint, (passing) => {
        if (spoil?.test(passing.url) && passing.body.length > 0) passing.body[0] = (passing.body[0] ?? 0) ^ 1;
        return undefined;
      });
      const { region, accessKeyId, secretAccessKey } = server;
      const credentials = { accessKeyId, secretAccessKey };
      const bucket = await server.newBucket();
      store = s3Store({ bucket, region, endpoint: proxy.endpoint, pathStyle: true, credentials });
    });
    afterAll(() => proxy.close());

    it("proves what is stored in one request and in parts, by that checksum and no other", async () => {
      expect((await store.capabilities()).checksum).toBe(checksum);
      proxy.seen.length = 0;
      expect((await store.put("small", Buffer.from("1"))).proven).toBe("store-checksum");
      expect((await store.put("empty", Buffer.alloc(0))).proven).toBe("store-checksum");
      const large = Readable.from([randomBytes(12 * megabyte)], { objectMode: false });
      expect((await store.put("large", large)).proven).toBe("store-checksum");
      for (const { headers } of proxy.seen.filter(({ method }) => method === "PUT")) {
        expect("content-md5" in headers).toBe(checksum === "md5");
        expect("x-amz-checksum-crc32" in headers).toBe(checksum === "crc32");
      }
      const last = proxy.seen.findLast(({ method, url }) => method === "POST" && url.includes("uploadId="));
      expect(last?.headers["x-amz-checksum-type"]).toBe(checksum === "crc32" ? "FULL_OBJECT" : undefined);
    });

    it("stores nothing of what was changed on its way", async () => {
      spoil = /spoiled/;
      await failsWith("store-failed", store.put("spoiled-small", Buffer.from("some bytes")));
      spoil = /spoiled-large.*partNumber=2/;
      await failsWith("store-failed", store.put("spoiled-large", randomBytes(11 * megabyte)));
      spoil = undefined;
      expect(await store.head("spoiled-small")).toBeUndefined();
      expect(await store.head("spoiled-large")).toBeUndefined();
    });
  });
}
