import type { Kube } from "../kube/kube.ts";
import type { Moment } from "../lib/parse-time.ts";
import type { Report } from "../lib/report.ts";
import type { Secret } from "../lib/secret.ts";
import type { Clock } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Repository, RepositoryReader } from "../repo/repository.ts";
import type { StoreCounts } from "../store/counting.ts";
import type { ObjectStore } from "../store/store.ts";
import type { Config, InstanceConfig, RepositoryConfig, SecretReference } from "./config.ts";
import type { CommandFlags, commandOptions } from "./options/command.ts";
import type { Output } from "./render.ts";

/** A command as the command line, its help, completion and the reference see it. */
export interface Command {
  /** `list`, or with its group in front: `backup logical`. */
  readonly name: string;
  /** One sentence without a full stop. */
  readonly summary: string;
  readonly arguments: readonly Argument[];
  /** At least one. */
  readonly examples: readonly Example[];
  /** Names of rows of the option table besides the global ones. */
  readonly options: readonly (keyof typeof commandOptions)[];
  /** `false`: works without the configuration, also where it is broken. */
  readonly needsConfig?: false;
  /** Gives the exit status. Imports what is heavy itself: `await import("../../backup/...")`. */
  run(context: CommandContext, args: CommandArguments): Promise<number>;
}

export interface Argument {
  /** `DB` is one, `DB...` any number. */
  readonly name: string;
  readonly required?: true;
  readonly doc: string;
  readonly choices?: readonly string[];
}

export interface Example {
  readonly line: string;
  readonly does: string;
}

export interface CommandArguments {
  /** The first text of the argument; `undefined` when it was not given. */
  one(name: string): string | undefined;
  /** All texts of an argument whose name ends in `...`. */
  all(name: string): readonly string[];
  /** Parsed and checked; those that were not given have their default, or are `undefined`. */
  readonly flags: CommandFlags;
}

/** What a command may use; made once by `main`. */
export interface CommandContext {
  readonly version: string;
  /** The words by which this pgkit was started: Node, and the path of its script. */
  readonly self: readonly string[];
  /** The flags that name the configuration, the instance and the repository, as they were given: for another run of `self`. */
  readonly places: readonly string[];
  /** The command line, for another run of it elsewhere. */
  readonly typed: Typed;
  readonly cwd: string;
  readonly report: Report;
  readonly clock: Clock;
  /** Aborted by SIGINT and SIGTERM with a `cancelled` error as its reason. */
  readonly signal: AbortSignal;
  readonly out: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly config: Config;
  /** That of `--instance`, to narrow down what is listed; it need not be configured. */
  readonly instanceName: string | undefined;
  /** The instance of this name, else that of `--instance`, else the only one. Fails with `usage`, naming those there are. */
  instance(name?: string): InstanceConfig;
  /** The instance of this name, else that of `--instance`, else all. */
  instances(name?: string): readonly InstanceConfig[];
  /** How to connect to an instance, its password read from where it is. Fails with `config` when it is not there. */
  connection(instance: InstanceConfig): Promise<Connection>;
  /** The store of a repository, with retries; under --dry-run every write throws. */
  openStore(repository: RepositoryConfig): Promise<ObjectStore>;
  /** Wraps a secret that was found somewhere, so that it is never shown. */
  keepSecret(text: string): Secret;
  /** What this run has asked of each store that it opened. */
  storeRequests(): { readonly repository: string; readonly counts: Readonly<StoreCounts> }[];
  /** Opens a repository to read it. Fails with `repository-missing`. */
  openRepository(repository: RepositoryConfig): Promise<RepositoryReader>;
  /** Opens a repository to write to it, and makes it where there is none. */
  openOrCreateRepository(repository: RepositoryConfig): Promise<Repository>;
  /** The age identities of a repository's identity file. Fails with `identity-required`. */
  identities(repository: RepositoryConfig): Promise<readonly string[]>;
  /** Reads a time as `--to-time` takes it, and says aloud which time zone was assumed. Fails with `usage`. */
  time(text: string): Moment;
  /** The Kubernetes API: in a Pod its own cluster's, else that of the kubeconfig. Opened once. Fails with `config`. */
  kube(): Promise<Kube>;
  /** Asks before something is destroyed; `does` completes "this". Fails with `usage` where nobody can be asked and `--yes` is not given, with `cancelled` on a no. */
  confirm(does: string): Promise<void>;
}

/** A command line as it was understood. Holds no secret. */
export interface Typed {
  /** `backup logical`. */
  readonly command: string;
  readonly texts: readonly string[];
  /** The words of each flag that was given, by its name: `--as` has `--as=NAME`. */
  readonly flags: ReadonlyMap<string, readonly string[]>;
}

/** Reads the text of a key of a Kubernetes Secret. */
export type ReadSecret = (reference: SecretReference, signal: AbortSignal) => Promise<string>;
