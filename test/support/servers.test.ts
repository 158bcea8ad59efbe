import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { fileURLToPath } from "node:url";
import { GetObjectCommand, GetObjectLockConfigurationCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { expect, it } from "vitest";
import { startAzurite } from "./azurite.ts";
import { eventually } from "./eventually.ts";
import { startS3 } from "./s3.ts";

it.each([
  ["old", /^16\.2\./],
  ["new", /^18\.2\./],
  ["newest", /^2\d\./],
] as const)(
  "the %s S3 server has buckets with object lock, TLS under its own authority, and a user without rights",
  async (which, version) => {
    const server = await startS3(which);
    expect(server.version).toMatch(version);
    const Bucket = await server.newBucket({ objectLock: true });
    const lock = await server.client.send(new GetObjectLockConfigurationCommand({ Bucket }));
    expect(lock.ObjectLockConfiguration?.ObjectLockEnabled).toBe("Enabled");
    const stored = await server.client.send(new PutObjectCommand({ Bucket, Key: "a", Body: "b" }));
    expect(stored.VersionId).toBeTruthy();
    const stranger = new S3Client({
      endpoint: server.endpoint,
      region: server.region,
      forcePathStyle: true,
      credentials: server.denied,
    });
    const read = stranger.send(new GetObjectCommand({ Bucket, Key: "a" }));
    await expect(read).rejects.toMatchObject({ name: "AccessDenied" });
    const ca = await readFile(server.caFile);
    expect(await statusOverTls(server.tlsEndpoint, ca)).toBe(200);
    await expect(statusOverTls(server.tlsEndpoint)).rejects.toThrow("certificate");
    await expect(statusOverTls(server.wrongNameEndpoint, ca)).rejects.toMatchObject({
      code: "ERR_TLS_CERT_ALTNAME_INVALID",
    });
  },
);

it("Azurite keeps blobs in a container of its own", async () => {
  const server = await startAzurite();
  const container = server.client.getContainerClient(await server.newContainer());
  await container.getBlockBlobClient("a/b").upload("text", 4);
  expect((await container.getBlockBlobClient("a/b").downloadToBuffer()).toString()).toBe("text");
});

it("every server ends with the run, also when that is killed", async () => {
  const keeper = fileURLToPath(new URL("keeper.ts", import.meta.url));
  const holder = `const keeper = require("node:child_process").spawn(process.execPath, [${JSON.stringify(keeper)}], { stdio: ["pipe", "inherit", "inherit"] });`;
  const run = spawn(process.execPath, ["-e", holder], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(run.stdout, "data");
  const response = await fetch(`${String(line).trim()}/azurite`);
  const { endpoint } = (await response.json()) as { endpoint: string };
  await fetch(endpoint);
  run.kill("SIGKILL");
  await eventually(() => expect(fetch(endpoint)).rejects.toThrow("fetch failed"));
});

async function statusOverTls(url: string, ca?: Buffer): Promise<number | undefined> {
  const asked = request(url, ca === undefined ? {} : { ca }).end();
  const [response]: [IncomingMessage] = (await once(asked, "response")) as [IncomingMessage];
  response.resume();
  return response.statusCode;
}
