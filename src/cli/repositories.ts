import { readFile } from "node:fs/promises";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Repository, RepositorySettings } from "../repo/repository.ts";
import type { ObjectStore } from "../store/store.ts";
import type { CommandContext } from "./command.ts";
import type { RepositoryConfig } from "./config.ts";
import type { ContextInput } from "./context.ts";
import { folderOfUrl } from "./known-place.ts";

/** Opens what the configuration names; everything heavy loads when it is called. */
export function storesOf(
  input: ContextInput,
): Pick<CommandContext, "openStore" | "openRepository" | "openOrCreateRepository" | "identities" | "storeRequests"> {
  const { clock, signal, dryRun } = input;
  const requests: ReturnType<CommandContext["storeRequests"]> = [];
  const openStore: CommandContext["openStore"] = async (repository) => {
    const { openStore: open } = await import("../store/open.ts");
    const { countingStore } = await import("../store/counting.ts");
    const { store, counts } = countingStore(await open(repository.url, repository.storage, { clock }));
    requests.push({ repository: store.where, counts });
    if (!dryRun) return store;
    const { readOnlyStore } = await import("../store/read-only.ts");
    return readOnlyStore(store);
  };
  return {
    openStore,
    storeRequests: () => requests,
    identities: ({ encryption }) => readIdentities(encryption.identityFile, input),
    openRepository: async (repository) => {
      const { openRepository } = await import("../repo/repository.ts");
      const opened = await openRepository(await openStore(repository), settingsOf(repository, input), { signal });
      return await standingIn(repository, opened);
    },
    openOrCreateRepository: async (repository) => {
      const { openOrCreateRepository } = await import("../repo/repository.ts");
      const settings = settingsOf(repository, input);
      const store = await openStore(repository);
      if (dryRun) return await openOrImagine(store, settings, input);
      const opened = await openOrCreateRepository(store, settings, clock, { signal });
      return await standingIn(repository, opened);
    },
  };
}

/** Where there is none yet, and none may be made: an empty one. */
async function openOrImagine(
  store: ObjectStore,
  settings: RepositorySettings,
  { clock, signal }: ContextInput,
): Promise<Repository> {
  const { openOrCreateRepository, openRepository } = await import("../repo/repository.ts");
  const { memoryStore } = await import("../store/memory.ts");
  try {
    return await openRepository(store, settings, { signal });
  } catch (error) {
    if (!isPgkitError(error, "repository-missing")) throw error;
    return await openOrCreateRepository(memoryStore(), settings, clock, { signal });
  }
}

/** A file system may be unmounted under us. */
async function standingIn<Opened extends Repository>({ url }: RepositoryConfig, opened: Opened) {
  const path = folderOfUrl(url);
  if (path === undefined) return opened;
  const { standing } = await import("../repo/standing.ts");
  const { deviceOf } = await import("../store/file/device.ts");
  return await standing(opened, () => deviceOf(path));
}

function settingsOf(repository: RepositoryConfig, input: ContextInput): RepositorySettings {
  const { encryption } = repository;
  return {
    compression: { ...input.config.compression },
    recipients: encryption.recipients,
    identities: () => readIdentities(encryption.identityFile, input),
    volumeBytes: repository.volumeBytes,
    retainMs: repository.objectLockMs,
  };
}

/** The `AGE-SECRET-KEY-...` lines of the identity file, as age itself reads it. */
async function readIdentities(path: string | undefined, { vault }: ContextInput): Promise<readonly string[]> {
  if (path === undefined) {
    throw new PgkitError("identity-required", "this is encrypted, and no age identity is configured", {
      hint: "name the file with it by encryption.identityFile or PGKIT_ENCRYPTION_IDENTITY_FILE",
    });
  }
  const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new PgkitError("identity-required", `the age identity file ${path} cannot be read: ${cause.code}`, {
      hint: "is the path in encryption.identityFile right, and may the user that pgkit runs as read it?",
      cause,
    });
  });
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const identities = lines.filter((line) => line.startsWith("AGE-SECRET-KEY-"));
  if (identities.length === 0) {
    throw new PgkitError("identity-required", `the age identity file ${path} holds no AGE-SECRET-KEY line`, {
      hint: "age-keygen writes such a file; one protected by a passphrase must be decrypted first",
    });
  }
  for (const identity of identities) vault.keep(identity);
  return identities;
}
