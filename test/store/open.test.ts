import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { openStore, type StorageConfig } from "../../src/store/open.ts";
import { failsWith } from "./outcome.ts";

/** The packages that a process loads which opens this store and does nothing else. */
async function loadedBy(url: string, storage: StorageConfig): Promise<string[]> {
  const open = new URL("../../src/store/open.ts", import.meta.url).href;
  const script = `
    import { registerHooks } from "node:module";
    const seen = new Set();
    registerHooks({ resolve(name, context, next) {
      const found = next(name, context);
      seen.add(/node_modules\\/((@[^/]+\\/)?[^/]+)/.exec(found.url)?.[1]);
      return found;
    } });
    const { openStore } = await import(${JSON.stringify(open)});
    await openStore(${JSON.stringify(url)}, ${JSON.stringify(storage)});
    console.log(JSON.stringify([...seen].filter(Boolean)));`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
  return JSON.parse(stdout) as string[];
}

describe("opening a store", () => {
  it("loads no more than that store needs", async () => {
    expect(await loadedBy("file:///nowhere", {})).toEqual([]);
    const s3 = await loadedBy("s3://some-bucket/where", { region: "r" });
    expect(s3).toContain("@aws-sdk/client-s3");
    expect(s3.filter((name) => name.startsWith("@azure"))).toEqual([]);
    const azure = await loadedBy("azure://account/container", { accountKey: "a2V5" });
    expect(azure).toContain("@azure/storage-blob");
    expect(azure).not.toContain("@azure/identity");
    expect(azure.filter((name) => name.startsWith("@aws"))).toEqual([]);
  });

  it("takes a folder's URL, with characters that URLs write otherwise, and holds back its bytes", async () => {
    const path = await mkdtemp(join(tmpdir(), "pgkit store ä-"));
    const url = pathToFileURL(path).href;
    const store = await openStore(url, { bytesPerSecond: 1_000_000 });
    const before = performance.now();
    await store.put("a", Buffer.alloc(300_000));
    expect(performance.now() - before).toBeGreaterThan(250);
    expect((await (await openStore(`${url}/`, {})).head("a"))?.bytes).toBe(300_000);
    await rm(path, { recursive: true });
  });

  for (const url of ["", "/backups", "ftp://host/x", "file://host/x", "s3:/bucket", "azure://", "backups"]) {
    it(`refuses ${JSON.stringify(url)}, and says what a URL looks like`, async () => {
      const error = await failsWith("config", openStore(url, {}));
      expect(error.hint).toContain("file:///absolute/path");
    });
  }
});
