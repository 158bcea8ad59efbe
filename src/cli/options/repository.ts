import { option } from "./option.ts";
import * as value from "./values.ts";

/** Repositories by URL: `repository:` for one, `repositories:` for several. */
export const repositoryOptions = {
  /** The flag and the variable are `globalOptions.repository`. */
  url: option(value.repositoryUrl, { key: "repository", doc: "the one repository" }),
  listUrl: option(value.repositoryUrl, { key: "repositories.[].url", doc: "one of several repositories" }),
  listName: option(value.name, {
    key: "repositories.[].name",
    defaultDoc: "`repository-N`",
    doc: "what `--repository` and messages call it",
  }),
};

/** How pgkit uses the store. */
export function volumeOptions<const At extends "" | "repositories.[].">(at: At) {
  const named = (key: string, env: string) => ({
    key: `${at}storage.${key}`,
    ...(at === "" ? { env: `PGKIT_STORAGE_${env}` } : {}),
  });
  return {
    volumeSize: option(value.byteSize, {
      ...named("volumeSize", "VOLUME_SIZE"),
      default: 32 * 1024 ** 3,
      defaultDoc: "`32GiB`",
      doc: "a bigger file is stored in several objects of this size",
    }),
    objectLock: option(value.duration, {
      ...named("objectLock", "OBJECT_LOCK"),
      defaultDoc: "none",
      doc: "the store must refuse to remove what is stored for this long (S3 object lock)",
    }),
  };
}

/** Who can read what is stored. `at` is empty for the top of the file. */
export function encryptionOptions<const At extends "" | "repositories.[].">(at: At) {
  const env = (name: string) => (at === "" ? { env: name } : {});
  return {
    recipients: option(value.listOf(value.ageRecipient), {
      key: `${at}encryption.recipients`,
      ...env("PGKIT_ENCRYPTION_RECIPIENTS"),
      defaultDoc: "none: not encrypted",
      doc: "age recipients that everything is encrypted to",
    }),
    identityFile: option(value.path, {
      key: `${at}encryption.identityFile`,
      ...env("PGKIT_ENCRYPTION_IDENTITY_FILE"),
      doc: "file with the age identity; only to verify and restore",
    }),
  };
}

/** How runs keep out of each other's way. */
export const leaseOptions = {
  leaseTtl: option(value.leaseDuration, {
    key: "lease.ttl",
    env: "PGKIT_LEASE_TTL",
    default: 120_000,
    defaultDoc: "`2m`",
    doc: "after this long without renewal another run may take over the lease",
  }),
  leaseWait: option(value.duration, {
    key: "lease.wait",
    env: "PGKIT_LEASE_WAIT",
    default: 0,
    defaultDoc: "`0s`",
    doc: "how long to wait for another run to give the lease back",
  }),
};
