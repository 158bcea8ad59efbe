import { nearest } from "../lib/nearest.ts";
import type { SecretVault } from "../lib/secret.ts";
import type { EndpointKeys } from "../switch/endpoint-keys.ts";
import type { SwitchSettings } from "../switch/open.ts";
import type { ApplicationConfig, InstanceConfig } from "./config.ts";
import type { FileProblem } from "./config-file.ts";
import { endpointKeyOptions, applicationOptions as rows } from "./options/application.ts";
import type { Option } from "./options/option.ts";
import { splitPassword } from "./postgres-url.ts";
import type { Settings } from "./settings.ts";

/** The applications of the file. Their instances must be there, and each switch must have what it cannot do without. */
export function applicationsOf(
  settings: Settings,
  vault: SecretVault,
  instances: ReadonlyMap<string, InstanceConfig>,
  problems: FileProblem[],
): Map<string, ApplicationConfig> {
  const applications = new Map<string, ApplicationConfig>();
  for (const name of settings.names("applications")) {
    const where = settings.place("applications", name) ?? "";
    const instance = settings.get(rows.instance, name);
    const dedicated = settings.get(rows.dedicated, name);
    if (instance === undefined) problems.push({ message: `${where}: applications.${name} has no instance` });
    for (const [key, target] of Object.entries({ instance, dedicated })) {
      if (target === undefined || instances.has(target)) continue;
      const close = nearest(target, [...instances.keys()]);
      const at = settings.place("applications", name, key) ?? where;
      const known = `there are: ${[...instances.keys()].join(", ")}`;
      problems.push({
        message: `${at}: applications.${name}.${key} names the instance '${target}', which is not there`,
        hint: close === undefined ? known : `did you mean '${close}'? ${known}`,
      });
    }
    const database = settings.get(rows.database, name) ?? name;
    const target = switchOf(settings, vault, name, problems);
    applications.set(name, { name, database, instance: instance ?? "", dedicated, switch: target });
  }
  return applications;
}

/** Reads the keys of one application, and notes each that is needed and not there. */
interface Reader {
  readonly settings: Settings;
  readonly application: string;
  needed<T>(row: Option<T>): T | undefined;
  /** True where the file has this part of `switch:`. */
  has(part: string): boolean;
}

function switchOf(settings: Settings, vault: SecretVault, name: string, problems: FileProblem[]): SwitchSettings {
  const reader: Reader = {
    settings,
    application: name,
    has: (part) => settings.place("applications", name, "switch", part) !== undefined,
    needed: (row) => {
      const value = settings.get(row, name);
      const parts = row.key?.split(".").slice(3, -1) ?? [];
      const where = settings.place("applications", name, "switch", ...parts) ?? "";
      if (value === undefined) problems.push({ message: `${where}: ${row.key?.replace("*", name)} is missing` });
      return value;
    },
  };
  const command = settings.get(rows.command, name);
  return {
    ...(reader.has("secret") ? { secret: secretSwitch(reader) } : {}),
    ...(reader.has("pgbouncer") ? { pgbouncer: pgbouncerSwitch(reader, vault) } : {}),
    ...(reader.has("haproxy") ? { haproxy: haproxySwitch(reader) } : {}),
    ...(reader.has("envFile") ? { envFile: envFileSwitch(reader) } : {}),
    ...(command === undefined ? {} : { command }),
  };
}

function secretSwitch(reader: Reader): Required<SwitchSettings>["secret"] {
  return {
    namespace: reader.needed(rows.secretNamespace) ?? "",
    name: reader.needed(rows.secretName) ?? "",
    keys: endpointKeys(reader, "secret"),
    kubeseal: reader.settings.get(rows.secretKubeseal, reader.application),
    rolloutMs: reader.settings.get(rows.secretRolloutTimeout, reader.application),
  };
}

function pgbouncerSwitch(reader: Reader, vault: SecretVault): Required<SwitchSettings>["pgbouncer"] {
  const { url, password } = splitPassword(reader.needed(rows.pgbouncerAdmin) ?? "postgresql:", vault);
  return {
    admin: url,
    password,
    databases: reader.needed(rows.pgbouncerDatabases) ?? [],
    configFile: reader.settings.get(rows.pgbouncerConfigFile, reader.application),
  };
}

function haproxySwitch(reader: Reader): Required<SwitchSettings>["haproxy"] {
  return {
    socket: reader.needed(rows.haproxySocket) ?? "",
    backend: reader.needed(rows.haproxyBackend) ?? "",
    server: reader.needed(rows.haproxyServer) ?? "",
  };
}

function envFileSwitch(reader: Reader): Required<SwitchSettings>["envFile"] {
  return { path: reader.needed(rows.envFilePath) ?? "", keys: endpointKeys(reader, "envFile") };
}

function endpointKeys({ settings, application }: Reader, group: "secret" | "envFile"): EndpointKeys {
  const parts = ["url", "host", "port", "user", "password", "database"] as const;
  const given = parts.flatMap((part) => {
    const key = settings.get(endpointKeyOptions[group][part], application);
    return key === undefined ? [] : [[part, key] as const];
  });
  return Object.fromEntries(given);
}
