import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { Readable } from "node:stream";
import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import type { PgkitError } from "../../src/lib/errors.ts";
import type { AzureStoreConfig } from "../../src/store/azure/config.ts";
import { azureStore } from "../../src/store/azure.ts";
import { readAll } from "../../src/store/body.ts";
import { openStore } from "../../src/store/open.ts";
import { type AzureServer, startAzurite } from "../support/azurite.ts";
import { all, failsWith } from "./outcome.ts";
import { type Fate, type Passing, startProxy } from "./proxy.ts";

const otherKey = Buffer.alloc(64, 1).toString("base64");

async function storeWith(change: (server: AzureServer) => Partial<AzureStoreConfig>) {
  const server = await startAzurite();
  const { account, endpoint, key } = server;
  const container = await server.newContainer();
  const config = { account, container, endpoint, credential: { accountKey: key }, ...change(server) };
  return { store: await azureStore(config), server, container };
}

/** The store answers so to everything that is asked of it. */
async function answersOf(change: (server: AzureServer) => Partial<AzureStoreConfig>, code: PgkitError["code"]) {
  const { store, server } = await storeWith(change);
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
    for (const secret of [server.key, otherKey, "SharedKey ", "sig=abc"]) expect(everything).not.toContain(secret);
    expect(error.hint).toBeTruthy();
  }
  return { error: errors[0] as PgkitError, server };
}

describe("Azure refuses", () => {
  it("a wrong account key", async () => {
    const { error, server } = await answersOf(() => ({ credential: { accountKey: otherKey } }), "store-denied");
    expect(error.message).toContain(server.endpoint);
    expect(error.hint).toContain("key");
  });

  it("a signature that is none", async () => {
    await answersOf(() => ({ credential: { sas: "?sv=2024-01-01&sig=abc%3D" } }), "store-denied");
  });

  it("a container that is not there, which is never taken for an empty one", async () => {
    const { error } = await answersOf(() => ({ container: "no-such-container" }), "repository-missing");
    expect(error.hint).toContain("create the container no-such-container");
  });

  it("a connection string that is none, and does not repeat it", async () => {
    const connectionString = `AccountName=a;AccountKey=${otherKey};Nonsense`;
    const error = await failsWith(
      "config",
      storeWith(() => ({ credential: { connectionString } })),
    );
    expect(inspect(error, { depth: 20 })).not.toContain(otherKey);
  });
});

describe("Azure cannot be reached", () => {
  it("when nothing listens there", async () => {
    const { error } = await answersOf(
      () => ({ endpoint: "http://127.0.0.1:9/account", attempts: 2 }),
      "store-unreachable",
    );
    expect(error.message).toContain("http://127.0.0.1:9");
  });

  it("when the server takes the connection and says nothing", async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((listening) => silent.listen(0, "127.0.0.1", listening));
    const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/account`;
    await answersOf(() => ({ endpoint, idleTimeoutMs: 150, attempts: 2 }), "store-unreachable");
    silent.close();
  });

  it("with TLS by an unknown authority, and says what to set", async () => {
    const { startS3 } = await import("../support/s3.ts");
    const { tlsEndpoint, wrongNameEndpoint, caFile } = await startS3("old");
    const { error } = await answersOf(() => ({ endpoint: tlsEndpoint, attempts: 1 }), "store-unreachable");
    expect(error.hint).toContain("storage.caFile");
    const wrongName = await answersOf(
      () => ({ endpoint: wrongNameEndpoint, caFile, attempts: 1 }),
      "store-unreachable",
    );
    expect(wrongName.error.hint).toContain("another host name");
    // Once trusted, it turns out to be another kind of server; but it was spoken to.
    const trusted = await storeWith(() => ({ endpoint: tlsEndpoint, caFile, attempts: 1 }));
    const other = await trusted.store.get("a").catch((reason: unknown) => reason as PgkitError);
    expect(other).not.toHaveProperty("code", "store-unreachable");
  });
});

describe("Azure opens", () => {
  it("by connection string, by signature and by URL", async () => {
    const server = await startAzurite();
    const container = await server.newContainer();
    const { account, connectionString, endpoint } = server;
    const storage = [
      { connectionString },
      { endpoint, accountKey: server.key },
      { endpoint, sas: await signature(server) },
    ];
    for (const [index, config] of storage.entries()) {
      const store = await openStore(`azure://${account}/${container}/some/where`, config);
      expect(store.where).toBe(`azure://${account}/${container}/some/where`);
      await store.put(`key${index}`, Buffer.from("1"), { when: "absent" });
    }
    const names: string[] = [];
    for await (const { name } of server.client.getContainerClient(container).listBlobsFlat()) names.push(name);
    expect(names).toEqual(["some/where/key0", "some/where/key1", "some/where/key2"]);
  });

  it("nothing with two credentials, a bad part size or a class that cannot be read", async () => {
    for (const storage of [
      { sas: "a", accountKey: "b" },
      { partBytes: 1 },
      { storageClass: "Archive" },
      { checksum: "crc32" as const },
    ]) {
      await failsWith("config", openStore("azure://account/container", { accountKey: otherKey, ...storage }));
    }
    await failsWith("config", openStore("azure://account", {}));
  });
});

describe("Azure on a bad line", () => {
  const isPutOf = (key: string) => (passing: Passing) => passing.method === "PUT" && passing.url.includes(`/${key}`);

  async function behindProxy(fate: (passing: Passing) => Fate) {
    const server = await startAzurite();
    const proxy = await startProxy(server.endpoint, fate);
    const container = await server.newContainer();
    const endpoint = proxy.endpoint + new URL(server.endpoint).pathname;
    const store = await openStore(`azure://${server.account}/${container}`, { endpoint, accountKey: server.key });
    return { store, proxy };
  }

  it("does not lose against itself when an answer is lost", async () => {
    for (const [key, body] of [
      ["small", Buffer.from("1")],
      ["large", Buffer.alloc(11_000_000)],
    ] as const) {
      let left = 1;
      const isLast = (passing: Passing) => isPutOf(key)(passing) && !passing.url.includes("comp=block&");
      const { store, proxy } = await behindProxy((passing) =>
        isLast(passing) && left-- > 0 ? "lose-reply" : undefined,
      );
      expect((await store.put(key, body, { when: "absent" })).bytes).toBe(body.length);
      await failsWith("condition-failed", store.put(key, body, { when: "absent" }));
      await proxy.close();
    }
  });

  it("goes on with a body from the byte reached", async () => {
    let left = 2;
    const { store, proxy } = await behindProxy(({ method, url }) =>
      method === "GET" && url.includes("/object") && left-- > 0 ? { cutAfter: 200_000 } : undefined,
    );
    const content = Buffer.alloc(1_000_000, "content ");
    await store.put("object", Readable.from([content], { objectMode: false }));
    expect((await readAll(await store.get("object"))).equals(content)).toBe(true);
    const ranges = proxy.seen.filter(({ method, url }) => method === "GET" && url.includes("/object"));
    expect(ranges).toHaveLength(3);
    await proxy.close();
  });
});

/** Of the whole account, for an hour. */
async function signature(server: AzureServer): Promise<string> {
  const {
    AccountSASPermissions,
    AccountSASResourceTypes,
    AccountSASServices,
    generateAccountSASQueryParameters,
    StorageSharedKeyCredential,
  } = await import("@azure/storage-blob");
  const settings = {
    expiresOn: new Date(Date.now() + 3_600_000),
    permissions: AccountSASPermissions.parse("rwdlac"),
    resourceTypes: AccountSASResourceTypes.parse("sco").toString(),
    services: AccountSASServices.parse("b").toString(),
  };
  return generateAccountSASQueryParameters(
    settings,
    new StorageSharedKeyCredential(server.account, server.key),
  ).toString();
}
