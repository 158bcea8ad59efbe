import { fileURLToPath } from "node:url";
import { identityKey } from "../../repo/layout.ts";
import type { Manifest } from "../../repo/manifest.ts";
import { openRepository, type RepositoryReader } from "../../repo/repository.ts";
import type { StorageConfig } from "../../store/open.ts";
import type { ObjectStore, StoreCapabilities } from "../../store/store.ts";
import type { Found, Ledger } from "../ledger.ts";
import { checkContent, newestOfEach } from "./content.ts";
import { checkEncryption } from "./encryption.ts";
import { checkFolder, checkSpace } from "./folder.ts";
import { checkObjects, winnersOf } from "./objects.ts";
import { tellSkew } from "./skew.ts";

/** A repository as the configuration has it. */
export interface RepositoryUnderCheck {
  readonly url: string;
  readonly storage: StorageConfig;
  readonly encryption: { readonly recipients: readonly string[]; readonly identityFile: string | undefined };
  /** Files are to be under object lock for so long. */
  readonly objectLockMs: number | undefined;
  openStore(): Promise<ObjectStore>;
  /** Those of the identity file. Fails with `identity-required`. */
  identities(): Promise<readonly string[]>;
}

/** The backups of a repository that could be read. */
export interface RepositoryFacts {
  url: string;
  /** Oldest first; empty also where there is no repository yet. */
  backups: readonly Manifest[];
  /** `undefined` where there is no repository yet. */
  reader: RepositoryReader | undefined;
}

const slow = { late: "store-unreachable" } as const;

/** Gives its backups, `undefined` when they could not be read. */
export async function checkRepository(
  ledger: Ledger,
  repository: RepositoryUnderCheck,
  { dryRun }: { dryRun: boolean },
): Promise<RepositoryFacts | undefined> {
  const { url } = repository;
  const opened = await ledger.run("repository", (found) => open(repository, found), slow);
  const path = url.startsWith("file:") ? fileURLToPath(url) : undefined;
  const folder = path === undefined || opened === undefined ? undefined : await checkFolder(ledger, path);
  let skewMs = 0;
  if (opened !== undefined) {
    // A probe would make the folder, and that is for the first backup to do.
    const canTry = path === undefined || folder?.exists === true;
    if (dryRun) await tellLeftOut(ledger);
    else if (canTry) skewMs = await tryStore(ledger, repository, opened.store);
  }
  const keys = await checkEncryption(ledger, repository);
  if (opened === undefined) return undefined;
  const { reader, store } = opened;
  const backups = reader === undefined ? [] : await checkContent(ledger, { reader, store, skewMs, keys });
  if (folder !== undefined) await checkSpace(ledger, folder, newestOfEach(backups ?? []));
  return backups && { url, backups, reader };
}

/** Nothing is decoded here. */
const readingOnly = {
  compression: { level: 1, threads: 1 },
  recipients: [],
  identities: async () => [],
  volumeBytes: 1,
};

async function open(
  repository: RepositoryUnderCheck,
  { ok, signal }: Found,
): Promise<{ store: ObjectStore; reader: RepositoryReader | undefined }> {
  const store = await repository.openStore();
  if ((await store.head(identityKey, { signal })) === undefined) {
    ok("the store answers; there is no repository in it yet, the first backup makes it");
    return { store, reader: undefined };
  }
  const reader = await openRepository(store, readingOnly, { signal });
  ok(`the store answers; the repository is ${reader.id}`);
  return { store, reader };
}

async function tellLeftOut(ledger: Ledger): Promise<void> {
  await ledger.run("dry run", async (found) =>
    found.warning(
      "left out, as they write under probe/: storing and removing, conditional writes, checksum, object lock, clock",
      "pgkit check without --dry-run",
    ),
  );
}

/** Gives the store's clock minus ours in ms. */
async function tryStore(ledger: Ledger, repository: RepositoryUnderCheck, store: ObjectStore): Promise<number> {
  if (!(await checkObjects(ledger, repository, store))) return 0;
  const able = await ledger.run("conditional writes", (found) => conditions(found, store), slow);
  if (able === undefined) return 0;
  await ledger.run("checksum", async (found) => checksum(found, able, repository));
  await ledger.run("object lock", async (found) => objectLock(found, able, repository));
  const signed = repository.url.startsWith("s3:");
  await ledger.run("clock", async (found) => tellSkew(found, able.clockSkewMs, { of: "the store", signed }));
  return able.clockSkewMs;
}

const oneWriter =
  "let only one pgkit work on this repository at a time, and pass --single-writer to pgkit prune, or use another store";

/** Believes what the store says of itself only after it has shown it: of three writers of one key one may win. */
async function conditions(found: Found, store: ObjectStore): Promise<StoreCapabilities> {
  const { signal } = found;
  const able = await store.capabilities({ signal });
  if (!able.createIfAbsent) {
    found.warning("conditional writes are ignored: two runs at once cannot be kept apart", oneWriter);
    return able;
  }
  const winners = await winnersOf(store, signal);
  if (winners !== 1) {
    const message = `of 3 writers that each create the same object, ${winners} were told that they did`;
    found.error(`conditional writes are not kept: ${message}`, oneWriter, "store-unsupported");
    return able;
  }
  found.ok(`create-if-absent is kept; compare-and-set is ${able.compareAndSet ? "kept" : "not, and not needed"}`);
  return able;
}

function checksum(found: Found, { checksum: kept }: StoreCapabilities, { storage }: RepositoryUnderCheck) {
  const wanted = storage.checksum ?? "auto";
  if (kept === "read-back") return found.ok("what is stored is proven by reading it back");
  if (kept !== "none") return found.ok(`what is stored is proven by the store's own ${kept}`);
  if (wanted === "crc32" || wanted === "md5") {
    const message = `storage.checksum is ${wanted}, which the store does not check and return: all is read back instead`;
    return found.warning(message, "set storage.checksum to auto");
  }
  found.ok("what is stored is proven by reading it back, which costs as much traffic again");
}

function objectLock(found: Found, { objectLock: kept }: StoreCapabilities, { objectLockMs }: RepositoryUnderCheck) {
  if (objectLockMs === undefined) {
    return found.ok(kept ? "the store can lock objects; storage.objectLock is not set" : "not configured");
  }
  if (kept) return found.ok("the store keeps locked objects from removal");
  found.error(
    "storage.objectLock is set, and the store does not keep objects from removal, whatever it accepts",
    "make a new bucket with object lock, or remove storage.objectLock",
    "store-unsupported",
  );
}
