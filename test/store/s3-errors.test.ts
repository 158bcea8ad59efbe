import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { describe, expect, it, vi } from "vitest";
import type { PgkitError } from "../../src/lib/errors.ts";
import { openStore, type StorageConfig } from "../../src/store/open.ts";
import type { S3StoreConfig } from "../../src/store/s3/config.ts";
import { s3Store } from "../../src/store/s3.ts";
import { type S3Server, startS3 } from "../support/s3.ts";
import { all, failsWith } from "./outcome.ts";
import { startProxy } from "./proxy.ts";

/** Once with any setting replaced. */
async function storeWith(change: (server: S3Server) => Partial<S3StoreConfig>) {
  const server = await startS3("old");
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  const bucket = await server.newBucket();
  const config = { bucket, region, endpoint, pathStyle: true, credentials: { accessKeyId, secretAccessKey } };
  return { store: s3Store({ ...config, ...change(server) }), server, bucket };
}

/** The store answers so to everything that is asked of it. */
async function answersOf(change: (server: S3Server) => Partial<S3StoreConfig>, code: PgkitError["code"]) {
  const { store, server, bucket } = await storeWith(change);
  const errors = [
    await failsWith(code, store.get("a")),
    await failsWith(code, store.head("a")),
    await failsWith(code, all(store.list(""))),
    await failsWith(code, store.put("a", Buffer.from("1"))),
    await failsWith(code, store.put("a", Buffer.from("1"), { when: "absent" })),
    await failsWith(code, store.delete(["a"])),
    await failsWith(code, store.capabilities()),
  ];
  for (const error of errors) {
    const everything = inspect(error, { depth: 20, showHidden: true });
    expect(everything).not.toContain(server.secretAccessKey);
    expect(everything).not.toContain("AWS4-HMAC");
    expect(error.message).toContain(store.where.split("/")[2]);
    expect(error.hint).toBeTruthy();
  }
  return { error: errors[0] as PgkitError, bucket, server };
}

describe("S3 with TLS", () => {
  it("works with the authority's file", async () => {
    const { store } = await storeWith(({ tlsEndpoint, caFile }) => ({ endpoint: tlsEndpoint, caFile }));
    await store.put("a", Buffer.from("over TLS"));
    expect((await store.head("a"))?.bytes).toBe(8);
  });

  it("without the authority's file says what to set", async () => {
    const { error } = await answersOf(({ tlsEndpoint }) => ({ endpoint: tlsEndpoint }), "store-unreachable");
    expect(error.hint).toContain("storage.caFile");
  });

  it("under a name that the certificate does not hold says so", async () => {
    const change = ({ wrongNameEndpoint, caFile }: S3Server) => ({ endpoint: wrongNameEndpoint, caFile });
    const { error } = await answersOf(change, "store-unreachable");
    expect(error.hint).toContain("another host name");
  });

  it("with an authority's file that is not there fails before any request", async () => {
    const error = await failsWith(
      "config",
      storeWith(() => ({ caFile: "/no/such/file" })),
    );
    expect(error.message).toContain("/no/such/file");
  });

  it("spoken to without TLS, or TLS where there is none, says so", async () => {
    const { error } = await answersOf(
      ({ endpoint }) => ({ endpoint: endpoint.replace("http:", "https:") }),
      "store-unreachable",
    );
    expect(error.hint).toContain("http, not https");
  });
});

describe("S3 refuses", () => {
  it("a wrong secret key", async () => {
    const { error, server } = await answersOf(
      ({ accessKeyId }) => ({ credentials: { accessKeyId, secretAccessKey: "not-the-key-of-this-user" } }),
      "store-denied",
    );
    expect(error.message).toContain(server.endpoint);
    expect(error.hint).toContain("secret access key");
  });

  it("a key that it does not know", async () => {
    const credentials = { accessKeyId: "NOSUCHKEY", secretAccessKey: "any" };
    const { error } = await answersOf(() => ({ credentials }), "store-denied");
    expect(error.hint).toContain("belong to");
  });

  it("a user without rights", async () => {
    const { error } = await answersOf(({ denied }) => ({ credentials: denied }), "store-denied");
    expect(error.hint).toContain("may this user read, write, list and delete");
  });

  it("a bucket that is not there, which is never taken for an empty one", async () => {
    const { error } = await answersOf(() => ({ bucket: "no-such-bucket" }), "repository-missing");
    expect(error.hint).toContain("create the bucket no-such-bucket");
  });

  it("temporary credentials that have expired", async () => {
    const body = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";
    const server = await startS3("old");
    const proxy = await startProxy(server.endpoint, () => ({ answer: { status: 400, body } }));
    const sessionToken = "a-session-token-that-is-secret";
    const keys = { accessKeyId: "a", secretAccessKey: "b", sessionToken };
    const store = s3Store({
      bucket: "some-bucket",
      region: "r",
      endpoint: proxy.endpoint,
      pathStyle: true,
      credentials: keys,
    });
    const error = await failsWith("store-denied", store.get("a"));
    expect(error.hint).toContain("expired");
    expect(inspect(error, { depth: 20, showHidden: true })).not.toContain(sessionToken);
    await proxy.close();
  });
});

describe("S3 cannot be reached", () => {
  it("when nothing listens there", async () => {
    const { error } = await answersOf(() => ({ endpoint: "http://127.0.0.1:9", attempts: 2 }), "store-unreachable");
    expect(error.message).toContain("http://127.0.0.1:9");
    expect(error.hint).toContain("port");
  });

  it("when the name is not known", async () => {
    const { error } = await answersOf(
      () => ({ endpoint: "http://no-such-host.invalid", attempts: 1 }),
      "store-unreachable",
    );
    expect(error.message).toContain("no-such-host.invalid");
  });

  it("when the server takes the connection and says nothing", async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((listening) => silent.listen(0, "127.0.0.1", listening));
    const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    await answersOf(() => ({ endpoint, idleTimeoutMs: 150, attempts: 2 }), "store-unreachable");
    silent.close();
  });

  it("when the clocks differ by hours, beyond what the client can correct", async () => {
    const body = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>";
    const server = await startS3("old");
    const proxy = await startProxy(server.endpoint, () => ({ answer: { status: 403, body } }));
    const { accessKeyId, secretAccessKey } = server;
    const credentials = { accessKeyId, secretAccessKey };
    const store = s3Store({
      bucket: "b-b-b",
      region: "r",
      endpoint: proxy.endpoint,
      pathStyle: true,
      credentials,
      attempts: 2,
    });
    const error = await failsWith("store-unreachable", store.get("a"));
    expect(error.hint).toContain("clocks");
    await proxy.close();
  });

  it("when the bucket is in another region", async () => {
    const body = "<Error><Code>PermanentRedirect</Code><Message>use another endpoint</Message></Error>";
    const server = await startS3("old");
    const proxy = await startProxy(server.endpoint, () => ({ answer: { status: 301, body } }));
    const credentials = { accessKeyId: "a", secretAccessKey: "b" };
    const store = s3Store({ bucket: "b-b-b", region: "r", endpoint: proxy.endpoint, pathStyle: true, credentials });
    const error = await failsWith("store-unreachable", store.get("a"));
    expect(error.hint).toContain("storage.region");
    await proxy.close();
  });
});

describe("S3 settings", () => {
  const url = "s3://some-bucket/some/where";
  const wrong: [string, string, StorageConfig][] = [
    ["parts too small", url, { partBytes: 1024 }],
    ["a class that cannot be read", url, { storageClass: "DEEP_ARCHIVE" }],
    ["half a key", url, { accessKeyId: "a" }],
    ["an endpoint that is no URL", url, { endpoint: "rgw.example:7480" }],
    ["a customer's key of the wrong length", url, { sse: "customer", sseCustomerKey: "c2hvcnQ=" }],
    ["a folder that cannot be", "s3://some-bucket/a b", {}],
    ["no bucket", "s3://", {}],
  ];
  for (const [what, where, storage] of wrong) {
    it(`fail at once: ${what}`, async () => {
      const error = await failsWith("config", openStore(where, { region: "r", ...storage }));
      expect(error.message).not.toContain("c2hvcnQ");
    });
  }

  it("reach the server: class of storage, encryption, the key's id, and who may be asked how often", async () => {
    const server = await startS3("old");
    const proxy = await startProxy(server.endpoint, () => undefined);
    const bucket = await server.newBucket();
    const { accessKeyId, secretAccessKey, region } = server;
    const requests: string[] = [];
    const storage = { endpoint: proxy.endpoint, region, accessKeyId, secretAccessKey, storageClass: "STANDARD" };
    const store = await openStore(`s3://${bucket}/deep/down/`, storage, { onRequest: (name) => requests.push(name) });
    await store.put("a", Buffer.from("1"));
    expect(store.where).toBe(`s3://${bucket}/deep/down`);
    const put = proxy.seen.findLast(({ method }) => method === "PUT");
    expect(put?.url).toContain(`/${bucket}/deep/down/a`);
    expect(put?.headers["x-amz-storage-class"]).toBe("STANDARD");
    expect(requests).toContain("PutObject");
    expect(requests).toHaveLength(proxy.seen.length);
    await proxy.close();
  });

  it("find credentials as the SDK does where none are given, and say what is missing where there are none", async () => {
    const { accessKeyId, secretAccessKey, endpoint, newBucket } = await startS3("old");
    const url = `s3://${await newBucket()}`;
    vi.stubEnv("AWS_EC2_METADATA_DISABLED", "true");
    vi.stubEnv("AWS_ACCESS_KEY_ID", accessKeyId);
    vi.stubEnv("AWS_SECRET_ACCESS_KEY", secretAccessKey);
    await (await openStore(url, { endpoint })).put("a", Buffer.from("1"));
    vi.stubEnv("AWS_ACCESS_KEY_ID", undefined);
    const error = await failsWith("store-denied", (await openStore(url, { endpoint })).head("a"));
    expect(error.hint).toContain("AWS_ACCESS_KEY_ID");
    vi.unstubAllEnvs();
  });

  it("encrypt by a key of the server's key store", async () => {
    const { store, server, bucket } = await storeWith(({ kmsKeyId, tlsEndpoint, caFile }) => ({
      endpoint: tlsEndpoint,
      caFile,
      sse: { type: "aws:kms", keyId: kmsKeyId },
    }));
    const { HeadObjectCommand } = await import("@aws-sdk/client-s3");
    for (const [key, content] of [
      ["small", Buffer.from("1")],
      ["large", Buffer.alloc(6_000_000)],
    ] as const) {
      await store.put(key, content);
      const found = await server.client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }));
      expect(found).toMatchObject({ ServerSideEncryption: "aws:kms", SSEKMSKeyId: server.kmsKeyId });
    }
  });

  it("encrypt by a key of one's own, without which nothing can be read", async () => {
    const sse = { type: "customer", key: Buffer.alloc(32, 7).toString("base64") } as const;
    const { store, server, bucket } = await storeWith(({ tlsEndpoint, caFile }) => ({
      endpoint: tlsEndpoint,
      caFile,
      sse,
    }));
    const { accessKeyId, secretAccessKey, region, endpoint } = server;
    const credentials = { accessKeyId, secretAccessKey };
    const without = s3Store({ bucket, region, endpoint, pathStyle: true, credentials });
    for (const [key, content] of [
      ["small", Buffer.from("1")],
      ["large", Buffer.alloc(6_000_000)],
    ] as const) {
      await store.put(key, content);
      expect((await store.head(key))?.bytes).toBe(content.length);
      for await (const chunk of await store.get(key)) expect(chunk.length).toBeGreaterThan(0);
      await failsWith("store-failed", without.get(key));
    }
  });

  it("with an authority's file that holds no certificate trust nobody more", async () => {
    const folder = await mkdtemp(join(tmpdir(), "pgkit-store-"));
    await writeFile(join(folder, "ca.crt"), "not a certificate");
    const { store } = await storeWith(({ tlsEndpoint }) => ({
      endpoint: tlsEndpoint,
      caFile: join(folder, "ca.crt"),
      attempts: 1,
    }));
    await failsWith("store-unreachable", store.head("a"));
    await rm(folder, { recursive: true });
  });
});
