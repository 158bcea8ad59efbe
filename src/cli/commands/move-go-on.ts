import { formatDuration } from "../../lib/parse.ts";
import type { FoundMove, Journal } from "../../move/journal.ts";
import type { MoveRun } from "../../move/move.ts";
import { auditActor } from "../actor.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import { findMoveOf, moveRun, worldOf } from "../move.ts";
import { concludeMove } from "../move-outcome.ts";

const database = { name: "DB", required: true, doc: "the application or its database" } as const;

export const moveStatusCommand: Command = {
  name: "move status",
  summary: "Show how far the newest move of a database is",
  arguments: [database],
  options: [],
  examples: [{ line: "pgkit move status litellm", does: "its state, its steps and its proof" }],
  run: async (context, args) => {
    const [config] = context.config.repositories;
    const found = await findMoveOf(context, args);
    return config === undefined ? 0 : concludeMove(context, await context.openRepository(config), found.journal);
  },
};

export const moveResumeCommand: Command = {
  name: "move resume",
  summary: "Go on with a move that stopped or was killed",
  arguments: [database],
  options: ["maxBlock"],
  examples: [{ line: "pgkit move resume litellm", does: "goes on where it stopped" }],
  run: async (context, args) => {
    const { resumeMove } = await import("../../move/move.ts");
    return goOn(context, args, "resume", resumeMove);
  },
};

export const moveRollbackCommand: Command = {
  name: "move rollback",
  summary: "Undo a move, after the switch with every write that was made since",
  arguments: [database],
  options: ["maxBlock"],
  examples: [{ line: "pgkit move rollback litellm", does: "the application is where it was, and nothing is lost" }],
  run: async (context, args) => {
    const { rollBackMove } = await import("../../move/move.ts");
    return goOn(context, args, "rollback", rollBackMove);
  },
};

export const moveUnblockCommand: Command = {
  name: "move unblock",
  summary: "Let the application in again after a run that was killed; one that is killed starts this itself",
  arguments: [database],
  options: [],
  examples: [{ line: "pgkit move unblock litellm", does: "opens its database where the application is pointed at" }],
  run: async (context, args) => {
    const { unblockMove } = await import("../../move/move.ts");
    return goOn(context, args, "unblock", unblockMove);
  },
};

export const moveFinishCommand: Command = {
  name: "move finish",
  summary: "Complete a move: a last verified backup, the rest of the proof, and then the old database is dropped",
  arguments: [database],
  options: ["yes"],
  examples: [
    { line: "pgkit move finish litellm --yes", does: "drops the old database and the roles nothing else uses" },
  ],
  run: async (context, args) => {
    const { finishMove } = await import("../../move/move.ts");
    return goOn(context, args, "finish", async (found, run) => {
      await context.confirm(whatFinishDoes(found, context));
      return finishMove(found, run);
    });
  },
};

function whatFinishDoes({ journal: { facts, steps } }: FoundMove, { clock }: CommandContext): string {
  const drops = `drops ${facts.database} on ${facts.source.instance}`;
  const switchedAt = steps.get("unblock")?.at;
  if (switchedAt === undefined) return drops;
  const leftMs = Date.parse(switchedAt) + facts.options.rollbackWindowMs - clock.now().getTime();
  return leftMs > 0
    ? `${drops}, and with it the way back, which was to stay for another ${formatDuration(leftMs)}`
    : drops;
}

async function goOn(
  context: CommandContext,
  args: CommandArguments,
  does: string,
  go: (found: FoundMove, run: MoveRun) => Promise<Journal>,
): Promise<number> {
  const { withAudit } = await import("../../repo/audit.ts");
  const { clock, report, signal } = context;
  const found = await findMoveOf(context, args);
  const world = await worldOf(context, found);
  const { source, target, database: subject } = found.journal.facts;
  const details = { action: does, from: source.instance, to: target.instance };
  const work = { clock, report, signal, actor: auditActor(context), command: "move", subject, details };
  const journal = await withAudit(world.repository, work, () =>
    go(found, { ...moveRun(context, world, subject), maxBlockMs: args.flags.maxBlock }),
  );
  return concludeMove(context, world.repository, journal);
}
