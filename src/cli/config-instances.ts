import { stat } from "node:fs/promises";
import { userInfo } from "node:os";
import type { Secret, SecretVault } from "../lib/secret.ts";
import type { RetentionRules } from "../repo/retention-rules.ts";
import type { ArchiveConfig, BaseBackupConfig, InstanceConfig, PasswordSource } from "./config.ts";
import type { FileProblem } from "./config-file.ts";
import { archiveOptions, baseOptions } from "./options/archive.ts";
import { connectionOptions, globalOptions } from "./options/global.ts";
import {
  instanceOptions,
  type RetentionOptions,
  retentionBaseOptions,
  retentionLogicalOptions,
} from "./options/instance.ts";
import { name as instanceName } from "./options/values.ts";
import { splitPassword, withoutPassword } from "./postgres-url.ts";
import type { Settings } from "./settings.ts";

/** The instances of the file in its order, else the one that `PG*` describes, named `default`. */
export async function instancesOf(
  settings: Settings,
  { vault }: { vault: SecretVault },
  problems: FileProblem[],
): Promise<Map<string, InstanceConfig>> {
  const names = settings.names("instances");
  if (names.length === 0) {
    const connection = await connectionOfEnvironment(settings, vault);
    return new Map([["default", { name: "default", ...connection, ...policiesOf(settings, "default") }]]);
  }
  const instances = new Map<string, InstanceConfig>();
  for (const name of names) {
    const where = settings.place("instances", name) ?? "";
    if ("wrong" in (await instanceName.parse([name], ""))) {
      problems.push({ message: `${where}: an instance must have ${instanceName.allowed}, not '${name}'` });
    }
    const given = settings.get(instanceOptions.url, name);
    if (given === undefined) problems.push({ message: `${where}: instances.${name} has no url` });
    const { url, password } = splitPassword(given ?? "postgresql:", vault);
    const passwordFrom = passwordSource(settings, name, problems) ?? knownPassword(password);
    instances.set(name, { name, url, passwordFrom, ...policiesOf(settings, name) });
  }
  return instances;
}

async function connectionOfEnvironment(
  settings: Settings,
  vault: SecretVault,
): Promise<Pick<InstanceConfig, "url" | "passwordFrom">> {
  const host = settings.get(connectionOptions.host) ?? (await usualHost());
  const database = settings.get(connectionOptions.database);
  const url = new URL(`postgresql:///${encodeURIComponent(database)}`);
  // As parameters, because no URL can hold a user without a host, and the folder of a socket is no host.
  url.searchParams.set("host", host);
  url.searchParams.set("port", String(settings.get(connectionOptions.port)));
  url.searchParams.set("user", settings.get(connectionOptions.user) ?? systemUser());
  for (const name of ["sslmode", "sslrootcert", "sslcert", "sslkey"] as const) {
    const value = settings.get(connectionOptions[name]);
    if (value !== undefined) url.searchParams.set(name, value);
  }
  const password = settings.get(connectionOptions.password);
  return { url: url.href, passwordFrom: knownPassword(password === undefined ? undefined : vault.keep(password)) };
}

/** As libpq does; in a container the uid often has no name, and then it is PostgreSQL's own. */
function systemUser(): string {
  try {
    return userInfo().username;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ERR_SYSTEM_ERROR") return "postgres";
    throw error;
  }
}

/** As Debian's libpq does. */
async function usualHost(): Promise<string> {
  const folder = "/var/run/postgresql";
  const found = await stat(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
    throw error;
  });
  return found?.isDirectory() === true ? folder : "localhost";
}

function knownPassword(password: Secret | undefined): PasswordSource | undefined {
  return password === undefined ? undefined : { type: "known", password };
}

function passwordSource(settings: Settings, name: string, problems: FileProblem[]): PasswordSource | undefined {
  const where = settings.place("instances", name, "passwordFrom");
  if (where === undefined) return undefined;
  const variable = settings.get(instanceOptions.passwordEnv, name);
  const path = settings.get(instanceOptions.passwordFile, name);
  const namespace = settings.get(instanceOptions.passwordSecretNamespace, name);
  const secretName = settings.get(instanceOptions.passwordSecretName, name);
  const key = settings.get(instanceOptions.passwordSecretKey, name);
  const isSecret = settings.place("instances", name, "passwordFrom", "secret") !== undefined;
  const what = `${where}: instances.${name}.passwordFrom`;
  if ([variable !== undefined, path !== undefined, isSecret].filter(Boolean).length !== 1) {
    problems.push({ message: `${what} must have one of env, file and secret` });
  }
  if (variable !== undefined) return { type: "env", variable };
  if (path !== undefined) return { type: "file", path };
  if (namespace !== undefined && secretName !== undefined && key !== undefined) {
    return { type: "secret", secret: { namespace, name: secretName, key } };
  }
  if (isSecret) problems.push({ message: `${what}.secret must have namespace, name and key` });
  return undefined;
}

type Policies = Omit<InstanceConfig, "name" | "url" | "passwordFrom">;

function policiesOf(settings: Settings, name: string): Policies {
  return {
    peer: settings.get(instanceOptions.peer, name),
    endpoint: settings.get(instanceOptions.endpoint, name),
    kubernetes: {
      statefulSet: settings.get(instanceOptions.statefulSet, name),
      dataDir: settings.get(instanceOptions.serverDataDir, name),
      user: settings.get(instanceOptions.serverUser, name),
    },
    databases: {
      include: settings.get(instanceOptions.include, name),
      exclude: settings.get(instanceOptions.exclude, name),
    },
    connections: settings.get(instanceOptions.connections, name),
    jobs: settings.get(instanceOptions.jobs, name),
    wholeBelowBytes: settings.get(instanceOptions.wholeBelow, name),
    countRows: settings.get(instanceOptions.countRows, name),
    schedule: {
      logical: settings.get(instanceOptions.scheduleLogical, name),
      base: settings.get(instanceOptions.scheduleBase, name),
      prune: settings.get(instanceOptions.schedulePrune, name),
      verify: settings.get(instanceOptions.scheduleVerify, name),
      check: settings.get(instanceOptions.scheduleCheck, name),
      timeZone: settings.get(instanceOptions.scheduleTimeZone, name) ?? settings.get(globalOptions.timeZone),
      graceMs: settings.get(instanceOptions.scheduleGrace, name),
    },
    retention: {
      logical: retentionOf(settings, retentionLogicalOptions, name),
      base: retentionOf(settings, retentionBaseOptions, name),
    },
    objectives: { rpoMs: settings.get(instanceOptions.rpo, name), rtoMs: settings.get(instanceOptions.rto, name) },
    base: baseOf(settings, name),
    archive: archiveOf(settings, name),
  };
}

function baseOf(settings: Settings, name: string): BaseBackupConfig {
  const standby = settings.get(baseOptions.standby, name);
  return {
    engine: settings.get(baseOptions.engine, name),
    standby: standby === undefined ? undefined : withoutPassword(standby).url,
    checkpoint: settings.get(baseOptions.checkpoint, name),
    maxRate: settings.get(baseOptions.maxRate, name),
    level: settings.get(baseOptions.level, name),
    workers: settings.get(baseOptions.workers, name),
  };
}

function archiveOf(settings: Settings, name: string): ArchiveConfig {
  return {
    method: settings.get(archiveOptions.method, name),
    timeoutMs: settings.get(archiveOptions.timeout, name),
    command: settings.get(archiveOptions.command, name),
    spool: settings.get(archiveOptions.spool, name),
    parallel: settings.get(archiveOptions.parallel, name),
    slot: settings.get(archiveOptions.slot, name) ?? slotName(name),
    streamFolder: settings.get(archiveOptions.streamFolder, name),
    flushEveryMs: settings.get(archiveOptions.flushEvery, name),
    onFull: settings.get(archiveOptions.onFull, name),
    warnBytes: settings.get(archiveOptions.warnBytes, name),
    alertBytes: settings.get(archiveOptions.alertBytes, name),
    warnAfterMs: settings.get(archiveOptions.warnAfter, name),
    alertAfterMs: settings.get(archiveOptions.alertAfter, name),
  };
}

/** PostgreSQL takes lower-case letters, digits and `_`, at most 63 of them. */
function slotName(instance: string): string {
  return `pgkit_${instance.toLowerCase().replaceAll(/[^a-z0-9_]/g, "_")}`.slice(0, 63);
}

function retentionOf(settings: Settings, rows: RetentionOptions, instance: string): RetentionRules {
  const { window, ...counts } = rows;
  const given = Object.entries<typeof counts.keepLast>(counts).flatMap(([rule, row]) => {
    const value = settings.get(row, instance);
    return value === undefined ? [] : [[rule, value] as const];
  });
  const windowMs = settings.get(window, instance);
  const rules: RetentionRules = Object.fromEntries(given);
  return windowMs === undefined ? rules : { ...rules, windowMs };
}
