import { PgkitError } from "../lib/errors.ts";
import type { Secret, SecretVault } from "../lib/secret.ts";
import type { Clock } from "../lib/time.ts";
import { parseConnection } from "../postgres/connection.ts";
import type { EndpointKeys } from "./endpoint-keys.ts";
import type { Switcher } from "./switcher.ts";

/** What an application's `switch:` says; any number of them. */
export interface SwitchSettings {
  readonly secret?: SecretSwitch;
  readonly pgbouncer?: {
    /** The URL of the admin console, without its password. */
    readonly admin: string;
    readonly password: Secret | undefined;
    readonly databases: readonly string[];
    readonly configFile: string | undefined;
  };
  readonly haproxy?: { readonly socket: string; readonly backend: string; readonly server: string };
  readonly envFile?: { readonly path: string; readonly keys: EndpointKeys };
  readonly command?: readonly string[];
}

export interface SecretSwitch {
  readonly namespace: string;
  readonly name: string;
  readonly keys: EndpointKeys;
  /** The words of kubeseal, where the owner is a SealedSecret and its new manifest is wanted. */
  readonly kubeseal?: readonly string[] | undefined;
  /** How long the workloads may take to be ready; 5 minutes where left out. */
  readonly rolloutMs?: number | undefined;
}

export interface SwitchersDeps {
  readonly clock: Clock;
  /** The moved database, for what does not name one. */
  readonly database: string;
  /** How applications reach source and target, as the configuration spells it. */
  readonly endpoints: Readonly<Record<"source" | "target", { readonly host: string; readonly port: number }>>;
  /** Wraps a password that is found in a file or a Secret, so that it is scrubbed. */
  readonly vault: Pick<SecretVault, "keep">;
  /** Opens the switcher of a Kubernetes Secret (`k8s-secret.ts`), which needs a way to the cluster. */
  readonly openSecret?: ((config: SecretSwitch) => Promise<Switcher>) | undefined;
  /** How long PgBouncer may wait for what is under way. */
  readonly pauseTimeoutMs?: number | undefined;
}

/** What the settings name, in the order in which they are switched; what pauses comes first. Asks none of them yet. */
export async function openSwitchers(settings: SwitchSettings, deps: SwitchersDeps): Promise<Switcher[]> {
  const { clock, database, vault, endpoints } = deps;
  const switchers: Switcher[] = [];
  if (settings.pgbouncer !== undefined) {
    const { pgbouncerSwitcher } = await import("./pgbouncer.ts");
    const { admin, password, databases, configFile } = settings.pgbouncer;
    const connection = consoleConnection(admin, password);
    switchers.push(pgbouncerSwitcher({ admin: connection, databases, configFile }, deps));
  }
  if (settings.haproxy !== undefined) {
    const { haproxySwitcher } = await import("./haproxy.ts");
    switchers.push(haproxySwitcher(settings.haproxy, { clock, database, known: [endpoints.source, endpoints.target] }));
  }
  if (settings.secret !== undefined) switchers.push(await secretSwitcher(settings.secret, deps));
  if (settings.envFile !== undefined) {
    const { envFileSwitcher } = await import("./env-file.ts");
    switchers.push(envFileSwitcher(settings.envFile, { database, keep: vault.keep }));
  }
  if (settings.command !== undefined) {
    const { commandSwitcher } = await import("./command.ts");
    switchers.push(commandSwitcher(settings.command, { assumed: { ...endpoints.source, database } }));
  }
  return switchers;
}

/** The console is a database of that name, also where the URL leaves it out. */
function consoleConnection(admin: string, password: Secret | undefined) {
  const connection = parseConnection(admin, password);
  return /^[^?]*:\/\/[^/?]*\/[^?]/.test(admin) ? connection : { ...connection, database: "pgbouncer" };
}

async function secretSwitcher(config: SecretSwitch, { openSecret }: SwitchersDeps): Promise<Switcher> {
  if (openSecret !== undefined) return await openSecret(config);
  throw new PgkitError(
    "config",
    `the Secret ${config.namespace}/${config.name} cannot be switched: no way to its cluster`,
    {
      hint: "run pgkit where a kubeconfig or a service account leads to the cluster",
    },
  );
}
