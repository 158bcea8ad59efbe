import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Ran, type RunOptions, run } from "../cli/run.ts";
import type { Cluster } from "./cluster.ts";

export interface InstanceOptions {
  cluster: Cluster;
  /** Lines of its part of pgkit.yaml, such as `wholeBelow: 1KiB`. */
  settings?: readonly string[];
  /** Who backs up and restores; the superuser when left out. */
  user?: { name: string; password: string };
  database?: string;
}

export interface Pgkit {
  /** The folder that is the repository. */
  repository: string;
  /** The configuration, for processes of their own. */
  yaml: string;
  run(args: readonly string[], options?: RunOptions): Promise<Ran>;
  /** Runs with `--json` and gives the document; fails, with what was said, on another exit status than 0. */
  json<T = JsonResult>(args: readonly string[], options?: RunOptions): Promise<T>;
  /** Backs up one database; gives the backup's id. */
  backup(database: string, instance?: string): Promise<string>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What tests look at in the documents of backup, restore, list and verify. */
export interface JsonResult {
  backups: { id: string; database: string; repository: string; storedBytes: number }[];
  failures?: { database: string; code: string; message: string; hint: string }[];
  results: { id: string; ok: boolean; problems: string[] }[];
  keptAs: string;
  as: string;
  rows: number;
  tables: number;
  notRestored: string[];
}

/** A repository in a temporary folder, and the command line with a configuration of these instances. */
export async function pgkitFor(
  instances: Record<string, InstanceOptions>,
  extra: readonly string[] = [],
): Promise<Pgkit> {
  const repository = await mkdtemp(join(tmpdir(), "pgkit-repo-"));
  const yaml = [
    `repository: ${repository}`,
    ...extra,
    "instances:",
    ...Object.entries(instances).flatMap(([name, options]) => [
      `  ${name}:`,
      `    url: ${JSON.stringify(urlOf(options))}`,
      ...(options.settings ?? []).map((line) => `    ${line}`),
    ]),
    "",
  ].join("\n");
  const runIt = (args: readonly string[], options: RunOptions = {}) =>
    run(args, { ...options, files: { "pgkit.yaml": yaml, ...options.files } });
  const json = async <T = JsonResult>(args: readonly string[], options?: RunOptions): Promise<T> => {
    const ran = await runIt([...args, "--json"], options);
    if (ran.status !== 0) throw new Error(`pgkit ${args.join(" ")} exited ${ran.status}: ${ran.stderr}${ran.stdout}`);
    return JSON.parse(ran.stdout);
  };
  return {
    ...{ repository, yaml, run: runIt, json },
    backup: async (database, instance) => {
      const which = instance === undefined ? [] : ["--instance", instance];
      const { backups } = await json(["backup", "logical", database, ...which]);
      return backups[0]?.id ?? "";
    },
    [Symbol.asyncDispose]: () => rm(repository, { recursive: true, force: true }),
  };
}

function urlOf({ cluster, user, database = "postgres" }: InstanceOptions): string {
  const { name, password } = user ?? { name: cluster.superuser, password: cluster.password };
  const login = `${encodeURIComponent(name)}:${encodeURIComponent(password)}`;
  return `postgresql://${login}@${cluster.host}:${cluster.port}/${encodeURIComponent(database)}`;
}
