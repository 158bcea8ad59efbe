import type { Secret } from "../lib/secret.ts";
import type { RetentionPolicy } from "../repo/retention.ts";
import type { StorageConfig } from "../store/open.ts";
import type { SwitchSettings } from "../switch/open.ts";

/** The whole configuration: flags over environment over file over defaults, checked. */
export interface Config {
  /** The file it was read from; `undefined` when there is none. */
  readonly file: string | undefined;
  /** At least one; the first is the one that restores read from. */
  readonly repositories: readonly RepositoryConfig[];
  /** In the order of the file, by name. Never empty: without any in the file, `PG*` gives the one named `default`. */
  readonly instances: ReadonlyMap<string, InstanceConfig>;
  readonly applications: ReadonlyMap<string, ApplicationConfig>;
  readonly compression: { readonly level: number; readonly threads: number };
  readonly lease: LeaseConfig;
  readonly inCluster: InClusterConfig;
  /** Folders with PostgreSQL's programs that are looked into before the usual ones. */
  readonly postgresBin: readonly string[];
  readonly timeZone: string;
  /** How Kubernetes is reached; `undefined`: as kubectl would. */
  readonly kubernetes: { readonly kubeconfig: string | undefined; readonly context: string | undefined };
}

export interface RepositoryConfig {
  readonly name: string;
  /** Holds no credential. */
  readonly url: string;
  readonly storage: StorageConfig;
  readonly encryption: EncryptionConfig;
  /** A file is stored in volumes of at most so many bytes. */
  readonly volumeBytes: number;
  /** Files are under object lock for so long; `undefined` for no lock. */
  readonly objectLockMs: number | undefined;
}

export interface EncryptionConfig {
  /** Nothing is encrypted when this is empty. */
  readonly recipients: readonly string[];
  readonly identityFile: string | undefined;
}

export interface InstanceConfig {
  readonly name: string;
  /** `postgresql://user@host:port/database?...`; never holds a password. */
  readonly url: string;
  /** Where the password comes from; `undefined`: the password file, or none is needed. */
  readonly passwordFrom: PasswordSource | undefined;
  /** By which other servers, and applications, reach it; `undefined`: as the url says. */
  readonly peer: HostAndPort | undefined;
  readonly endpoint: HostAndPort | undefined;
  /** Where its server runs in a cluster, where its Pod does not show it. */
  readonly kubernetes: {
    readonly statefulSet: string | undefined;
    readonly dataDir: string | undefined;
    readonly user: number | undefined;
  };
  /** Patterns of `*` and `?`; `include: undefined` is every database but the templates. */
  readonly databases: { readonly include: readonly string[] | undefined; readonly exclude: readonly string[] };
  /** Connections that backups may hold on the server at once. */
  readonly connections: number;
  /** Parallel jobs inside one big database. */
  readonly jobs: number;
  /** A smaller database is stored as one archive. */
  readonly wholeBelowBytes: number;
  readonly countRows: boolean;
  readonly schedule: ScheduleConfig;
  readonly retention: RetentionPolicy;
  readonly objectives: { readonly rpoMs: number | undefined; readonly rtoMs: number | undefined };
  readonly base: BaseBackupConfig;
  readonly archive: ArchiveConfig;
}

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

export interface BaseBackupConfig {
  readonly engine: "protocol" | "pg_basebackup";
  /** URL of a standby to take base backups from, without a password: that of the instance goes with it. */
  readonly standby: string | undefined;
  readonly checkpoint: "fast" | "spread";
  /** Bytes a second; `undefined` is as fast as it goes. */
  readonly maxRate: number | undefined;
  readonly level: number;
  readonly workers: number;
}

export interface ArchiveConfig {
  readonly method: "archive" | "stream";
  /** archive_timeout. */
  readonly timeoutMs: number;
  /** Words of a shell by which the server's machine runs pgkit; `undefined`: this pgkit. */
  readonly command: string | undefined;
  /** Relative to the data directory, or absolute. */
  readonly spool: string;
  readonly parallel: number;
  readonly slot: string;
  /** `undefined`: a folder of the instance in the user's data folder. */
  readonly streamFolder: string | undefined;
  readonly flushEveryMs: number;
  readonly onFull: "alert" | "gap";
  readonly warnBytes: number;
  readonly alertBytes: number;
  readonly warnAfterMs: number;
  readonly alertAfterMs: number;
}

export type PasswordSource =
  | { readonly type: "known"; readonly password: Secret }
  | { readonly type: "env"; readonly variable: string }
  | { readonly type: "file"; readonly path: string }
  | { readonly type: "secret"; readonly secret: SecretReference };

/** A key of a Kubernetes Secret. */
export interface SecretReference {
  readonly namespace: string;
  readonly name: string;
  readonly key: string;
}

export interface ScheduleConfig {
  readonly logical: string | undefined;
  readonly base: string | undefined;
  readonly prune: string | undefined;
  readonly verify: string | undefined;
  readonly check: string | undefined;
  readonly timeZone: string;
  readonly graceMs: number;
}

export interface ApplicationConfig {
  readonly name: string;
  readonly database: string;
  readonly instance: string;
  readonly dedicated: string | undefined;
  /** What points it at its database; any number of them, all switched by a move. */
  readonly switch: SwitchSettings;
}

export interface LeaseConfig {
  /** After this long without renewal another run may take the lease. */
  readonly ttlMs: number;
  /** How long to wait for another run to give the lease back. */
  readonly waitMs: number;
}

/** How pgkit runs in a cluster; see `ManifestsRequest`. */
export interface InClusterConfig {
  readonly image: string | undefined;
  readonly imagePullSecrets: readonly string[];
  readonly namespace: string;
  readonly createNamespace: boolean;
  readonly uid: number;
  readonly secretName: string;
  readonly scratchBytes: number;
  /** What a restore that runs as a Job may take. */
  readonly restore: {
    readonly scratchBytes: number;
    /** `undefined`: the node's own disk. */
    readonly scratchClass: string | undefined;
    readonly memoryBytes: number;
  };
  readonly streamBytes: number;
  readonly storageClass: string | undefined;
  readonly repositoryClaim: string | undefined;
  readonly repositoryBytes: number;
  readonly deadlineMs: number;
  readonly networkPolicies: boolean;
  readonly serviceAccountAnnotations: Readonly<Record<string, string>>;
  readonly podLabels: Readonly<Record<string, string>>;
}
