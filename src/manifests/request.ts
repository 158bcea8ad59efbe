/** An object as the Kubernetes API takes it. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

/** What is rendered, as plain data: of the configuration, and of nothing else. */
export interface ManifestsRequest {
  readonly namespace: string;
  readonly createNamespace: boolean;
  readonly image: string;
  readonly imagePullSecrets: readonly string[];
  /** User and group that the Pods run as, and that their volumes belong to. */
  readonly uid: number;
  /** The Secret with passwords, the store's credentials and key files. */
  readonly secretName: string;
  readonly scratchBytes: number;
  readonly streamBytes: number;
  readonly storageClass: string | undefined;
  /** A claim that is there; `undefined`: one of `repositoryBytes` is made where a repository is a folder. */
  readonly repositoryClaim: string | undefined;
  readonly repositoryBytes: number;
  /** How long a backup or verification may take. */
  readonly deadlineMs: number;
  readonly networkPolicies: boolean;
  readonly serviceAccountAnnotations: Readonly<Record<string, string>>;
  readonly podLabels: Readonly<Record<string, string>>;
  /** What every Pod reads in /etc/pgkit: `pgkit.yaml` as it is, and certificates of authorities. */
  readonly configFiles: Readonly<Record<string, string>>;
  /** Variables that may hold the store's credentials: alternatives, each of one or several. */
  readonly storeCredentials: readonly (readonly string[])[];
  readonly stores: readonly Address[];
  /** Absolute paths of repositories that are folders. */
  readonly folders: readonly string[];
  /** Absolute paths of age identities, for those who read what is encrypted. */
  readonly identityFiles: readonly string[];
  readonly instances: readonly ManifestInstance[];
}

/** Where something answers. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface ManifestInstance {
  readonly name: string;
  readonly servers: readonly Address[];
  readonly password:
    | { readonly type: "env"; readonly variable: string }
    | { readonly type: "file"; readonly path: string }
    | { readonly type: "secret"; readonly secret: { readonly namespace: string; readonly name: string } }
    | undefined;
  readonly timeZone: string;
  readonly graceMs: number;
  /** Cron lines; what has none is not rendered. */
  readonly schedule: { readonly [Kind in ScheduledKind]: string | undefined };
  /** `pgkit wal stream` follows it. */
  readonly isStreamed: boolean;
  /** Absolute; `undefined`: one that pgkit chooses. */
  readonly streamFolder: string | undefined;
}

export const scheduledKinds = ["logical", "base", "prune", "verify", "check"] as const;
export type ScheduledKind = (typeof scheduledKinds)[number];
export type JobKind = ScheduledKind | "stream";

/** What a kind of job needs besides the store. */
export const needs: { readonly [Kind in JobKind]: { readonly server: boolean; readonly identity: boolean } } = {
  logical: { server: true, identity: false },
  base: { server: true, identity: false },
  prune: { server: false, identity: false },
  verify: { server: false, identity: true },
  check: { server: true, identity: true },
  stream: { server: true, identity: false },
};
