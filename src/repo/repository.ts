import { randomUUID } from "node:crypto";
import * as v from "valibot";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { collect } from "../lib/streams.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import type { ObjectReader, ObjectStore, SignalOption } from "../store/store.ts";
import { putAbsent } from "./absent.ts";
import type { Compression } from "./encoding.ts";
import { restoreGuide } from "./guide.ts";
import { guideKey, identityKey } from "./layout.ts";

/** The newest repository format that this pgkit writes and reads. */
export const repositoryFormat = 1;

export interface RepositorySettings {
  compression: Compression;
  /** age recipients; empty where nothing is to be encrypted. */
  recipients: readonly string[];
  /** The age identities, read when something encrypted is opened; fails with `identity-required` when there are none. */
  identities: () => Promise<readonly string[]>;
  /** A file is stored in volumes of at most this size, below every store's limit for one object. */
  volumeBytes: number;
  /** Files are put under object lock for so long; absent for no lock. */
  retainMs?: number | undefined;
}

/** A repository for those who only read it. */
export interface RepositoryReader extends RepositorySettings {
  /** Where it is, for messages. */
  readonly where: string;
  /** The id it was given when it was made; every manifest names it. */
  readonly id: string;
  readonly store: ObjectReader;
}

export interface Repository extends RepositoryReader {
  readonly store: ObjectStore;
}

const Identity = v.object({ format: v.number(), id: v.string(), createdAt: v.string() });

/** Opens what is there. Fails with `repository-missing`, or `format-unsupported` when a newer pgkit made it. */
export async function openRepository<Store extends ObjectReader>(
  store: Store,
  settings: RepositorySettings,
  options: SignalOption = {},
): Promise<RepositoryReader & { store: Store }> {
  const { id } = await readIdentity(store, options);
  return { ...settings, store, where: store.where, id };
}

/** Opens the repository, and makes it first where the store says that there is none. Two makers at once get one. */
export async function openOrCreateRepository(
  store: ObjectStore,
  settings: RepositorySettings,
  clock: Clock,
  options: SignalOption = {},
): Promise<Repository> {
  const existing = await openRepository(store, settings, options).catch((error: unknown) => {
    if (isPgkitError(error, "repository-missing")) return undefined;
    throw error;
  });
  if (existing !== undefined) return existing;
  const identity = { format: repositoryFormat, id: randomUUID(), createdAt: rfc3339(clock.now()) };
  try {
    await putAbsent(store, identityKey, Buffer.from(`${JSON.stringify(identity, undefined, 2)}\n`), options);
  } catch (error) {
    if (!isPgkitError(error, "condition-failed")) throw error;
  }
  return openRepository(store, settings, options);
}

/** Writes RESTORE.md where it is missing or was written by another version. */
export async function refreshGuide({ store }: Repository, options: SignalOption = {}): Promise<void> {
  const guide = Buffer.from(restoreGuide());
  const info = await store.head(guideKey, options);
  const current = info && (await collect(await store.get(guideKey, options)));
  if (current === undefined || !guide.equals(current)) await store.put(guideKey, guide, options);
}

async function readIdentity(store: ObjectReader, options: SignalOption): Promise<v.InferOutput<typeof Identity>> {
  const text = await readObject(store, identityKey, options).catch((cause: unknown) => {
    if (!isPgkitError(cause, "object-missing")) throw cause;
    throw new PgkitError("repository-missing", `there is no pgkit repository at ${store.where}`, {
      hint: "is the URL right? the first pgkit backup makes the repository",
      cause,
    });
  });
  const identity = v.safeParse(v.pipe(v.string(), v.parseJson(), Identity), text);
  if (!identity.success) {
    throw new PgkitError("manifest-corrupt", `${identityKey} at ${store.where} cannot be read`, {
      hint: "it was cut or changed; the backups beside it can be restored by hand (RESTORE.md)",
    });
  }
  if (identity.output.format > repositoryFormat) {
    const message = `the repository at ${store.where} is of format ${identity.output.format}, this pgkit knows up to ${repositoryFormat}`;
    throw new PgkitError("format-unsupported", message, { hint: "use the pgkit that wrote it, or a newer one" });
  }
  return identity.output;
}

/** A small object as text. Fails with `object-missing`. */
export async function readObject(store: ObjectReader, key: string, options: SignalOption = {}): Promise<string> {
  return (await collect(await store.get(key, options))).toString("utf8");
}
