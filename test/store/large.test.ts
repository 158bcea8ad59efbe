import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath, pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import type { StorageConfig } from "../../src/store/open.ts";
import { startAzurite } from "../support/azurite.ts";
import { startS3 } from "../support/s3.ts";

interface Moved {
  bytes: number;
  same: boolean;
  peakMb: number;
}

/** In a process of its own, 60 MB and then 300 MB: memory must not grow with the size of what passes through. */
async function staysFlat(url: string, storage: StorageConfig) {
  const script = fileURLToPath(new URL("large-child.ts", import.meta.url));
  // With the heap that bin/pgkit.js asks for.
  const child = spawn(process.execPath, ["--optimize-for-size", script], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(JSON.stringify({ url, storage }));
  const { small, large } = JSON.parse(await text(child.stdout)) as { small: Moved; large: Moved };
  const said = JSON.stringify({ small, large });
  expect(large, said).toMatchObject({ bytes: 300 * 1024 ** 2, same: true });
  // What is freed is not given back at once, so that some growth says nothing; all of it in memory would be 240.
  expect(large.peakMb - small.peakMb, said).toBeLessThan(100);
}

describe("300 MB from a stream of unknown length", () => {
  it("pass through a folder with memory flat", async () => {
    const path = await mkdtemp(join(tmpdir(), "pgkit-store-"));
    await staysFlat(pathToFileURL(path).href, {});
    await rm(path, { recursive: true });
  });

  for (const [which, version] of [
    ["old", "16.2"],
    ["new", "18.2"],
  ] as const) {
    it(`pass through S3 (Ceph ${version}) with memory flat`, async () => {
      const { endpoint, region, accessKeyId, secretAccessKey, newBucket } = await startS3(which);
      await staysFlat(`s3://${await newBucket()}/p`, { endpoint, region, accessKeyId, secretAccessKey });
    });
  }

  it("pass through Azure (Azurite) with memory flat", async () => {
    const { endpoint, account, key, newContainer } = await startAzurite();
    await staysFlat(`azure://${account}/${await newContainer()}/p`, { endpoint, accountKey: key });
  });
});
