import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { ProgressEvent } from "../../src/lib/report.ts";
import { systemClock } from "../../src/lib/time.ts";
import { commitBackup } from "../../src/repo/backups.ts";
import { sha256Of } from "../../src/repo/files.ts";
import { backupFolder } from "../../src/repo/layout.ts";
import type { Manifest } from "../../src/repo/manifest.ts";
import { openOrCreateRepository, type Repository } from "../../src/repo/repository.ts";
import { fileStore } from "../../src/store/file.ts";
import { memoryStore } from "../../src/store/memory.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { fakeClock } from "../support/fake-clock.ts";

export const dayMs = 86_400_000;

export const settings = {
  compression: { level: 1, threads: 1 },
  recipients: [],
  identities: async () => [],
  volumeBytes: 1024 * 1024,
};

export async function repositoryIn(store: ObjectStore): Promise<Repository> {
  return await openOrCreateRepository(store, settings, systemClock);
}

/** The stores that keep what the repository needs, and cost nothing to make. */
export const kindsOfStore = [
  { kind: "memory", make: async (): Promise<ObjectStore> => memoryStore() },
  {
    kind: "file",
    make: async (): Promise<ObjectStore> => {
      const path = await mkdtemp(join(tmpdir(), "pgkit-test-"));
      onTestFinished(async () => await rm(path, { recursive: true, force: true }));
      return fileStore({ path });
    },
  },
] as const;

export function reports(): { events: ProgressEvent[]; report: (event: ProgressEvent) => void; said(): string } {
  const events: ProgressEvent[] = [];
  return { events, report: (event) => events.push(event), said: () => JSON.stringify(events) };
}

/** A memory store and repository whose clock only the test moves. */
export async function quietRepository(lacks: Parameters<typeof memoryStore>[0] = {}) {
  const clock = fakeClock();
  const store = memoryStore({ clock, ...lacks });
  return { clock, store, repository: await repositoryIn(store) };
}

export interface StoredBackup {
  id: string;
  instance?: string;
  database?: string;
  startedAt?: string;
  kind?: Manifest["kind"];
  systemId?: string;
  retainUntil?: Date;
  /** How many files; 2 where left out. */
  files?: number;
  /** What the manifest says; 10 where left out. */
  storedBytes?: number;
  /** Of whom the manifest says that the files are encrypted to them. */
  recipients?: string[];
}

/** Stores the files of a backup and, unless `uncommitted`, its manifest. */
export async function storeBackup(
  repository: Repository,
  backup: StoredBackup,
  { uncommitted = false }: { uncommitted?: boolean } = {},
): Promise<Manifest> {
  const manifest = manifestOf(backup, repository.id);
  for (const { volumes } of manifest.files) {
    for (const { key } of volumes) await repository.store.put(key, contentOf(key), retention(backup));
  }
  if (!uncommitted) await commitBackup(repository, manifest, retention(backup));
  return manifest;
}

export function manifestOf(backup: StoredBackup, repository = "r"): Manifest {
  const { id, instance = "shared", database = "litellm", startedAt = "2026-11-01T02:00:00Z", files = 2 } = backup;
  const folder = backupFolder(instance, id);
  return {
    format: 1,
    id,
    kind: backup.kind ?? "logical",
    repository,
    instance,
    ...(backup.kind === "base" ? {} : { database }),
    startedAt,
    finishedAt: startedAt,
    server: { version: "18.1", systemId: backup.systemId ?? "7000000000000000001" },
    tools: { pgkit: "0.1.0" },
    plainBytes: 10,
    storedBytes: backup.storedBytes ?? 10,
    ...(backup.recipients === undefined ? {} : { recipients: backup.recipients }),
    proof: "read-back",
    files: Array.from({ length: files }, (_, index) => fileOf(`${folder}file-${index}`)),
  };
}

function fileOf(key: string): Manifest["files"][number] {
  const content = contentOf(key);
  const sha256 = sha256Of(content);
  return {
    name: key.slice(key.lastIndexOf("/") + 1),
    role: "data",
    encoding: [],
    plainBytes: content.length,
    plainSha256: sha256,
    volumes: [{ key, storedBytes: content.length, sha256 }],
  };
}

function contentOf(key: string): Buffer {
  return Buffer.from(`content of ${key}`);
}

function retention({ retainUntil }: StoredBackup): { retainUntil?: Date } {
  return retainUntil === undefined ? {} : { retainUntil };
}

export async function keysOf(store: ObjectStore, prefix = ""): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  return keys;
}
