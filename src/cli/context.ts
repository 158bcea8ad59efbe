import type { Kube } from "../kube/kube.ts";
import { PgkitError } from "../lib/errors.ts";
import { nearest } from "../lib/nearest.ts";
import { inZone, parseTime } from "../lib/parse-time.ts";
import type { Report } from "../lib/report.ts";
import type { SecretVault } from "../lib/secret.ts";
import type { Clock } from "../lib/time.ts";
import type { CommandContext, ReadSecret, Typed } from "./command.ts";
import type { Config, InstanceConfig, SecretReference } from "./config.ts";
import { askFirst } from "./confirm.ts";
import { connectionTo } from "./password.ts";
import type { Output, Streams } from "./render.ts";
import { storesOf } from "./repositories.ts";

export interface ContextInput {
  readonly version: string;
  readonly self: readonly string[];
  readonly places: readonly string[];
  readonly typed: Typed;
  readonly config: Config;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** That of `--instance`. */
  readonly instance: string | undefined;
  readonly dryRun: boolean;
  readonly yes: boolean;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly report: Report;
  readonly out: Output;
  readonly streams: Streams;
  readonly vault: SecretVault;
  /** In place of Kubernetes, for tests. */
  readonly readSecret: ReadSecret | undefined;
}

export function commandContext(input: ContextInput): CommandContext {
  const { config, clock, report } = input;
  const kube = kubeOf(input);
  const readSecret: ReadSecret = input.readSecret ?? ((reference, signal) => secretOf(kube, reference, signal));
  return {
    version: input.version,
    self: input.self,
    places: input.places,
    typed: input.typed,
    cwd: input.cwd,
    report,
    clock,
    signal: input.signal,
    out: input.out,
    env: input.env,
    config,
    instanceName: input.instance,
    instance: (name = input.instance) => oneInstance(config, name),
    instances: (name = input.instance) =>
      name === undefined ? [...config.instances.values()] : [oneInstance(config, name)],
    connection: (instance) => connectionTo(instance, { ...input, readSecret }),
    kube,
    ...storesOf(input),
    keepSecret: (text) => input.vault.keep(text),
    time: (text) => readTime(text, input),
    confirm: (does) => askFirst(does, input),
  };
}

/** Loaded when it is first asked for: the client is heavy. */
function kubeOf({ config, env, clock, report }: ContextInput): () => Promise<Kube> {
  let opened: Promise<Kube> | undefined;
  const open = async () => {
    const { openKube } = await import("../kube/open.ts");
    return await openKube({ ...config.kubernetes, env }, { clock, report });
  };
  return () => {
    opened ??= open();
    return opened;
  };
}

async function secretOf(kube: () => Promise<Kube>, reference: SecretReference, signal: AbortSignal): Promise<string> {
  const { readSecretText } = await import("../kube/secret-text.ts");
  return await readSecretText(await kube(), reference, signal);
}

function oneInstance({ instances, file }: Config, name: string | undefined): InstanceConfig {
  const names = [...instances.keys()];
  const known = `there are: ${names.join(", ")}`;
  if (name !== undefined) {
    const found = instances.get(name);
    if (found !== undefined) return found;
    const close = nearest(name, names);
    throw new PgkitError("usage", `there is no instance '${name}' in ${file ?? "the environment"}`, {
      hint: close === undefined ? known : `did you mean '${close}'? ${known}`,
    });
  }
  const [only, ...others] = instances.values();
  if (only !== undefined && others.length === 0) return only;
  throw new PgkitError("usage", "there are several instances: say which one by --instance", { hint: known });
}

function readTime(text: string, { config, clock, report }: ContextInput): ReturnType<CommandContext["time"]> {
  const { timeZone } = config;
  const moment = parseTime(text, { now: clock.now(), timeZone });
  if ("wrong" in moment) {
    throw new PgkitError("usage", `the time '${text}' ${moment.wrong}`, {
      hint: "RFC 3339 with an offset is understood everywhere: 2026-11-21T02:00:00Z",
    });
  }
  if (moment.assumedZone !== undefined) {
    const local = timeZone === "UTC" ? "" : ` (${inZone(moment.time, timeZone)})`;
    const message = `'${text}' is read in the time zone ${timeZone}: ${moment.exact}${local}`;
    report({ type: "note", message });
  }
  return moment;
}
