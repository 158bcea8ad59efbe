import { fanOut } from "../lib/fan-out.ts";
import { type Bytes, collect } from "../lib/streams.ts";
import type { NewFile } from "../repo/files.ts";
import { compareWithManifest, type FoundFiles, walkArchive } from "./tar-check.ts";
import { isAlive, storeFile, type Target } from "./target.ts";

export interface BaseArchives {
  /** Takes one archive to its end, by the server's name for it. */
  take(name: string, content: Bytes): Promise<void>;
  /** When all are taken: what they hold is what the server's manifest lists, or it fails with `verification-failed`. */
  check(): void;
}

/** Stores what a base backup consists of in every target that is alive, and reads along. */
export function baseArchives(targets: readonly Target[]): BaseArchives {
  const found: FoundFiles = new Map();
  let manifest: Buffer = Buffer.alloc(0);
  return {
    take: async (name, content) => {
      if (name === "backup_manifest") {
        manifest = await collect(content);
        await storeEverywhere(targets, { name, role: "backup-manifest" }, once(manifest));
        return;
      }
      const role = name.startsWith("base.") ? "base" : "tablespace";
      const file: NewFile = { name, role, compressed: name.endsWith(".zst") };
      await storeEverywhere(targets, file, content, (branch) => walkArchive(name, branch, found));
    },
    check: () => compareWithManifest(found, manifest),
  };
}

/** A store that fails is kept in its target; what `reader` finds, and what the source meets, fails all. */
async function storeEverywhere(
  targets: readonly Target[],
  file: NewFile,
  source: Bytes,
  reader?: (branch: Bytes) => Promise<void>,
): Promise<void> {
  const alive = targets.filter(isAlive);
  let failure: { error: unknown } | undefined;
  const fails = (error: unknown) => {
    failure ??= { error };
    throw error;
  };
  const whileNeeded = stopping(source, () => failure !== undefined || !alive.some(isAlive));
  await fanOut(failing(whileNeeded, fails), [
    ...alive.map((target) => (branch: Bytes) => storeFile(target, file, branch)),
    ...(reader === undefined ? [] : [(branch: Bytes) => reader(branch).catch(fails)]),
  ]);
  if (failure !== undefined) throw failure.error;
}

/** Fails when nobody needs the rest. */
async function* stopping(source: Bytes, useless: () => boolean): AsyncGenerator<Uint8Array> {
  for await (const piece of source) {
    if (useless()) throw new Error("no repository takes the backup any more");
    yield piece;
  }
}

async function* failing(source: Bytes, fails: (error: unknown) => void): AsyncGenerator<Uint8Array> {
  try {
    yield* source;
  } catch (error) {
    fails(error);
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
