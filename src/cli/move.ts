import { PgkitError } from "../lib/errors.ts";
import type { MoveWorld } from "../move/context.ts";
import type { FoundMove } from "../move/journal.ts";
import type { MoveRun } from "../move/move.ts";
import type { MoveFacts, MoveOptions, MoveServer } from "../move/step.ts";
import type { Connection } from "../postgres/connection.ts";
import type { SecretSwitch } from "../switch/open.ts";
import type { Switcher } from "../switch/switcher.ts";
import { auditActor } from "./actor.ts";
import type { CommandArguments, CommandContext } from "./command.ts";
import type { ApplicationConfig, InstanceConfig } from "./config.ts";

/** What is moved from where to where, as command line and configuration say. */
export interface MoveTask {
  readonly database: string;
  readonly application: ApplicationConfig | undefined;
  readonly source: InstanceConfig;
  readonly target: InstanceConfig;
}

/** Fails with `usage` where the command line and the file do not say which database, from where or to where. */
export function moveTask(context: CommandContext, args: CommandArguments): MoveTask {
  const name = args.one("DB") ?? "";
  const application = applicationOf(context, name);
  const database = application?.database ?? name;
  const { to } = args.flags;
  if (to === undefined)
    throw new PgkitError("usage", "the command is not complete", { hint: "where to? --to INSTANCE" });
  const target = targetOf(context, application, to);
  const source = sourceOf(context, application, target, database);
  if (source.name === target.name) {
    throw new PgkitError("usage", `${database} is on ${target.name} already, by the configuration`, {
      hint: "--instance names the instance that it moves from",
    });
  }
  return { database, application, source, target };
}

/** The application of this name, else the one that has a database of this name. */
export function applicationOf({ config }: CommandContext, name: string): ApplicationConfig | undefined {
  return config.applications.get(name) ?? [...config.applications.values()].find(({ database }) => database === name);
}

function targetOf(context: CommandContext, application: ApplicationConfig | undefined, to: string): InstanceConfig {
  const own = to === "dedicated" && !context.config.instances.has(to);
  if (!own) return context.instance(to);
  if (application?.dedicated !== undefined) return context.instance(application.dedicated);
  throw new PgkitError("usage", "--to dedicated: no application names an instance of its own", {
    hint: "set applications.NAME.dedicated in the configuration, or name the instance: --to INSTANCE",
  });
}

/** Where it lives by the configuration; when that is where it goes, it goes back there from its own instance. */
function sourceOf(
  context: CommandContext,
  application: ApplicationConfig | undefined,
  target: InstanceConfig,
  database: string,
): InstanceConfig {
  if (context.instanceName !== undefined) return context.instance(context.instanceName);
  const places = [application?.instance, application?.dedicated].filter((name) => name !== undefined && name !== "");
  const other = places.find((name) => name !== target.name);
  if (other !== undefined) return context.instance(other);
  const others = [...context.config.instances.keys()].filter((name) => name !== target.name);
  const [only] = others;
  if (only !== undefined && others.length === 1) return context.instance(only);
  throw new PgkitError("usage", `where is ${database}? no application of the configuration says it`, {
    hint: `--instance names the instance that it moves from; there are: ${others.join(", ")}`,
  });
}

/** What the steps work with. The journal is in the first repository. */
export async function moveWorld(context: CommandContext, task: MoveTask, options: SwitchOptions): Promise<MoveWorld> {
  const { programsFor } = await import("../postgres/programs.ts");
  const { config, clock, report } = context;
  const [repositoryConfig] = config.repositories;
  if (repositoryConfig === undefined) throw new PgkitError("config", "no repository is configured");
  const servers = { source: await serverOf(context, task.source), target: await serverOf(context, task.target) };
  return {
    ...servers,
    ...{ clock, report, pgkitVersion: context.version },
    switchers: await switchersOf(context, task, options, servers),
    repository: await context.openOrCreateRepository(repositoryConfig),
    programsFor: (major) => programsFor(major, config.postgresBin),
  };
}

async function serverOf(context: CommandContext, instance: InstanceConfig): Promise<MoveServer> {
  const connection = await context.connection(instance);
  const { host = "localhost", port = 5432 } = connection.hosts[0] ?? {};
  const peer: Connection = instance.peer === undefined ? connection : { ...connection, hosts: [instance.peer] };
  return { instance: instance.name, connection, peer, endpoint: instance.endpoint ?? { host, port } };
}

type SwitchOptions = Pick<MoveOptions, "switchCommand" | "gitopsOut" | "overrideGitops" | "rolloutMs">;

async function switchersOf(
  context: CommandContext,
  { application, database }: MoveTask,
  { switchCommand, gitopsOut, overrideGitops, rolloutMs }: SwitchOptions,
  { source, target }: Pick<MoveWorld, "source" | "target">,
): Promise<readonly Switcher[]> {
  const { openSwitchers } = await import("../switch/open.ts");
  const config = { ...application?.switch, ...(switchCommand === undefined ? {} : { command: switchCommand }) };
  const endpoints = { source: source.endpoint, target: target.endpoint };
  const { clock, report, keepSecret: keep } = context;
  const openSecret = async (secret: SecretSwitch) => {
    const { secretSwitcher } = await import("../switch/k8s-secret.ts");
    const kube = await context.kube();
    const deps = { kube, database, clock, report, keep, gitopsOut, overrideGitops };
    return secretSwitcher(secret, { ...deps, rolloutMs: rolloutMs ?? secret.rolloutMs });
  };
  return openSwitchers(config, { database, clock, endpoints, vault: { keep }, openSecret });
}

/** What a run of a move needs besides its journal. */
export function moveRun(context: CommandContext, world: MoveWorld, database: string): MoveRun {
  const { who, from } = auditActor(context);
  const runner = { who, ...from };
  const unblockWords = [...context.self, "move", "unblock", database, "--quiet", ...context.places];
  return { world, runner, unblockWords, signal: context.signal };
}

const usualMaxBlockMs = 10_000;

export function moveOptionsOf(
  { flags }: CommandArguments,
  { jobs }: InstanceConfig,
  mode: MoveFacts["mode"],
): MoveOptions {
  return {
    maxBlockMs: flags.maxBlock ?? (mode === "online" ? usualMaxBlockMs : undefined),
    jobs: flags.jobs ?? jobs,
    reverseFeed: !flags.withoutReverseFeed,
    backupMaxAgeMs: flags.backupAge,
    rollbackWindowMs: flags.rollbackWindow,
    ...(flags.switchCommand.length === 0 ? {} : { switchCommand: flags.switchCommand }),
    ...(flags.gitopsOut === undefined ? {} : { gitopsOut: flags.gitopsOut }),
    overrideGitops: flags.overrideGitops,
    ...(flags.rolloutTimeout === undefined ? {} : { rolloutMs: flags.rolloutTimeout }),
    autoRollback: !flags.withoutAutoRollback,
  };
}

/** The newest move of a database. Fails with `move-missing`. */
export async function findMoveOf(context: CommandContext, args: CommandArguments): Promise<FoundMove> {
  const { findMove } = await import("../move/journal.ts");
  const name = args.one("DB") ?? "";
  const database = applicationOf(context, name)?.database ?? name;
  const [config] = context.config.repositories;
  if (config === undefined) throw new PgkitError("config", "no repository is configured");
  const repository = await context.openRepository(config);
  const found = await findMove(repository, { database, instance: context.instanceName }, { signal: context.signal });
  if (found !== undefined) return found;
  throw new PgkitError("move-missing", `no move of ${database} is recorded in ${repository.where}`, {
    hint: `pgkit move ${database} --to INSTANCE begins one`,
  });
}

/** The world of a move that has begun, by what its journal says. */
export async function worldOf(context: CommandContext, { journal }: FoundMove): Promise<MoveWorld> {
  const { application, source, target, options } = journal.facts;
  const task = {
    application: application === undefined ? undefined : context.config.applications.get(application),
    source: context.instance(source.instance),
    target: context.instance(target.instance),
    database: journal.facts.database,
  };
  return moveWorld(context, task, options);
}
