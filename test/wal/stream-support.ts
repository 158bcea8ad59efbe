import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { openRepository, type Repository } from "../../src/repo/repository.ts";
import { listWal, readWal, type WalFile } from "../../src/repo/wal.ts";
import { fileStore } from "../../src/store/file.ts";
import { readStreamStatus, type StreamStatus } from "../../src/wal/stream-status.ts";
import type { Cluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";

export interface Place extends AsyncDisposable {
  folder: string;
  repository: string;
  streamFolder: string;
  configure(url: string, archive?: readonly string[], top?: readonly string[]): Promise<void>;
  /** Starts `pgkit wal stream` in a process of its own; `within` are words before it, such as those of a namespace. */
  stream(within?: readonly string[]): Streaming;
  status(): Promise<StreamStatus>;
  /** Waits until all that the server has flushed by now is stored. */
  caughtUp(cluster: Cluster, withinMs?: number): Promise<void>;
}

export interface Streaming {
  process: ChildProcess;
  said(): string;
  kill(signal: "SIGKILL" | "SIGTERM"): Promise<number | null>;
  ended: Promise<number | null>;
}

/** A folder with a configuration, a repository and a stream folder; all that was started there ends with it. */
export async function newPlace(): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-stream-test-"));
  const repository = join(folder, "repository");
  const streamFolder = join(folder, "stream");
  const started: Streaming[] = [];
  const status = async () => {
    const found = await readStreamStatus(streamFolder);
    if (found === undefined) throw new Error("there is no status yet");
    return found;
  };
  return {
    ...{ folder, repository, streamFolder, status },
    configure: async (url, archive = [], top = [`repository: ${repository}`]) => {
      const keys = ["flushEvery: 1s", ...archive].map((line) => `      ${line}`);
      const instance = ["instances:", "  shared:", `    url: ${JSON.stringify(url)}`, "    archive:"];
      const own = `      streamFolder: ${streamFolder}`;
      await writeFile(join(folder, "pgkit.yaml"), [...top, ...instance, own, ...keys, ""].join("\n"), { mode: 0o600 });
    },
    stream: (within) => {
      const streaming = startStreaming(folder, within);
      started.push(streaming);
      return streaming;
    },
    caughtUp: async (cluster, withinMs = 30_000) => {
      const wanted = lsn(await cluster.psql("SELECT pg_current_wal_flush_lsn()"));
      await eventually(async () => {
        expect(lsn((await status()).storedLsn ?? "0/0")).toBeGreaterThanOrEqual(wanted);
      }, withinMs);
    },
    [Symbol.asyncDispose]: async () => {
      for (const one of started) await one.kill("SIGKILL");
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function startStreaming(folder: string, within: readonly string[] = []): Streaming {
  const script = fileURLToPath(new URL("../support/pgkit-process.ts", import.meta.url));
  const [program = "", ...args] = [...within, process.execPath, script, "wal", "stream"];
  const child = spawn(program, args, {
    cwd: folder,
    env: { PATH: process.env.PATH, HOME: folder, PGKIT_LEASE_TTL: "12s" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stdout.on("data", (chunk) => (text += chunk));
  child.stderr.on("data", (chunk) => (text += chunk));
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  const kill: Streaming["kill"] = async (signal) => {
    child.kill(signal);
    return await ended;
  };
  return { process: child, said: () => text, kill, ended };
}

export function lsn(text: string): bigint {
  const [high = "0", low = "0"] = text.split("/");
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}

export async function openFolder(repository: string, identities: readonly string[] = []): Promise<Repository> {
  return await openRepository(fileStore({ path: repository }), {
    compression: { level: 3, threads: 1 },
    recipients: [],
    identities: async () => identities,
    volumeBytes: 2 ** 30,
  });
}

export interface StoredFile {
  file: WalFile;
  content: Buffer;
}

/** All stored WAL of the instance, decoded, by name. */
export async function storedWal(repository: Repository, systemId: string): Promise<Map<string, StoredFile>> {
  const found = new Map<string, StoredFile>();
  for await (const file of listWal(repository, { instance: "shared", systemId })) {
    found.set(file.name, { file, content: await readWal(repository, file) });
  }
  return found;
}

/** Settings by which the server itself copies each segment to `folder`: what must have been stored. */
export function reference(folder: string): Record<string, string> {
  return { archive_mode: "on", archive_command: `cp %p ${folder}/%f`, fsync: "on", full_page_writes: "on" };
}

/**
 * Every segment that the server itself archived is stored, with this very content; but those before the first that is
 * stored, where the slot was made.
 */
export async function expectAllOf(folder: string, stored: ReadonlyMap<string, StoredFile>): Promise<string[]> {
  const [first = "0"] = [...stored.keys()].filter((name) => /^[0-9A-F]{24}$/.test(name)).sort();
  const names = (await readdir(folder)).filter((name) => /^[0-9A-F]{24}$/.test(name) && name >= first).sort();
  for (const name of names) {
    const content = stored.get(name)?.content;
    expect(content, `${name} is stored`).toBeDefined();
    expect(content?.equals(await readFile(join(folder, name))), `${name} is what the server wrote`).toBe(true);
  }
  return names;
}

export async function systemIdOf(cluster: Cluster): Promise<string> {
  return await cluster.psql("SELECT system_identifier FROM pg_control_system()");
}

/** Numbers in [0, 1), always the same ones. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 16_807) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

export const clock = systemClock;
