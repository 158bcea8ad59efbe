import { readFile } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import type { SecretVault } from "../lib/secret.ts";
import type { Config } from "./config.ts";
import { applicationsOf } from "./config-applications.ts";
import { type ConfigFile, type FileProblem, readConfigFile } from "./config-file.ts";
import { inClusterOf } from "./config-in-cluster.ts";
import { instancesOf } from "./config-instances.ts";
import { repositoriesOf } from "./config-repositories.ts";
import { globalOptions, machineOptions } from "./options/global.ts";
import type { Option } from "./options/option.ts";
import { leaseOptions } from "./options/repository.ts";
import { allOptions } from "./options/table.ts";
import { splitPassword } from "./postgres-url.ts";
import { misspelledVariables, resolveSettings, settingsError } from "./settings.ts";

/** What the configuration is made of. */
export interface ConfigInput {
  readonly flags: ReadonlyMap<Option<unknown>, readonly string[]>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly vault: SecretVault;
  /** False: neither file nor environment is read, for commands that need none of it. */
  readonly isNeeded: boolean;
}

/** Reads the file and lays environment and flags over it. Fails with `config` and `usage`, naming every problem. */
export async function loadConfig(given: ConfigInput): Promise<Config> {
  const input = given.isNeeded
    ? given
    : { ...given, flags: new Map<Option<unknown>, readonly string[]>(), env: emptyEnvironment };
  for (const option of allOptions) {
    if (option.secret === true) keepSecret(input.env[option.env ?? ""] ?? "", input.vault);
  }
  const file = input.isNeeded ? await findConfigFile(input) : undefined;
  for (const { option, texts } of file?.values ?? []) {
    if (option.secret === true) for (const text of texts) keepSecret(text, input.vault);
  }
  const asked = { ...input, options: allOptions, file };
  const settings = await resolveSettings({
    ...asked,
    problems: [...(file?.problems ?? []), ...misspelledVariables(asked)],
  });
  const problems: FileProblem[] = [];
  const instances = await instancesOf(settings, input, problems);
  const config: Config = {
    file: file?.path,
    repositories: repositoriesOf(settings, input, problems),
    instances,
    applications: applicationsOf(settings, input.vault, instances, problems),
    compression: {
      level: settings.get(machineOptions.compressionLevel),
      threads: settings.get(machineOptions.compressionThreads),
    },
    lease: { ttlMs: settings.get(leaseOptions.leaseTtl), waitMs: settings.get(leaseOptions.leaseWait) },
    inCluster: inClusterOf(settings),
    postgresBin: settings.get(machineOptions.postgresBin) ?? [],
    timeZone: settings.get(globalOptions.timeZone),
    kubernetes: {
      kubeconfig: settings.get(machineOptions.kubeconfig),
      context: settings.get(machineOptions.kubeContext),
    },
  };
  if (problems.length > 0) throw settingsError("config", problems);
  return config;
}

/** A URL is no secret, but a password in it is; so is the key inside a connection string or a signature. */
function keepSecret(text: string, vault: SecretVault): void {
  if (text === "") return;
  for (const [, inside = ""] of text.matchAll(/\b(?:AccountKey|SharedAccessSignature|sig)=([^;&]+)/g))
    vault.keep(inside);
  if (/^[a-z]+:\/\//i.test(text)) splitPassword(text, vault);
  else vault.keep(text);
}

type FoundFile = ConfigFile & { readonly path: string; readonly folder: string };

async function findConfigFile(input: ConfigInput): Promise<FoundFile | undefined> {
  const flag = input.flags.get(globalOptions.config)?.[0];
  const named = flag ?? (input.env["PGKIT_CONFIG"] || undefined);
  const candidates = named === undefined ? ["pgkit.yaml", "/etc/pgkit/pgkit.yaml"] : [named];
  for (const candidate of candidates) {
    const path = resolve(input.cwd, candidate);
    const text = await readIfThere(path, candidate);
    if (text === undefined) continue;
    const shown = named === undefined && candidate !== path ? basename(path) : candidate;
    return { ...(await readConfigFile(text, shown, allOptions)), path, folder: dirname(path) };
  }
  if (named === undefined) return undefined;
  const where = flag === undefined ? "PGKIT_CONFIG" : "--config";
  throw new PgkitError("config", `there is no file ${named}`, { hint: `${where} names it` });
}

/** `undefined` only where the system says that there is no such file. */
async function readIfThere(path: string, shown: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new PgkitError("config", `cannot read ${shown}: ${String(code)}`, {
      hint: "may the user that pgkit runs as read it?",
      cause: error,
    });
  }
}

const emptyEnvironment: ConfigInput["env"] = {};
