import { PgkitError } from "../../lib/errors.ts";
import type { MoveFacts } from "../../move/step.ts";
import { auditActor } from "../actor.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import { moveOptionsOf, moveRun, moveTask, moveWorld } from "../move.ts";
import { concludeMove } from "../move-outcome.ts";
import { planText } from "../move-text.ts";
import { provisionInstance, showProvision } from "../provision.ts";

export const moveCommand: Command = {
  name: "move",
  summary: "Move an application's database to another instance, switch the application, and prove that nothing is lost",
  arguments: [{ name: "DB", required: true, doc: "the application or its database" }],
  options: [
    ...(["to", "online", "offline", "maxBlock", "jobs", "backupAge", "rollbackWindow", "withoutReverseFeed"] as const),
    ...(["switchCommand", "gitopsOut", "overrideGitops", "rolloutTimeout", "withoutAutoRollback"] as const),
    ...(["provision", "dryRun"] as const),
  ],
  examples: [
    { line: "pgkit move litellm --to dedicated --dry-run", does: "what would be done, how long, and every risk" },
    {
      line: "pgkit move litellm --to dedicated",
      does: "to its own instance; writes are blocked for a moment at the end",
    },
    {
      line: "pgkit move litellm --to dedicated --provision litellm-db.yaml",
      does: "makes the instance first, by Kubernetes manifests as pgkit provision renders them",
    },
    { line: "pgkit move litellm --to shared --offline", does: "back; writes are blocked for the whole copy" },
    { line: "pgkit move rollback litellm", does: "goes back, with every write made since the switch" },
  ],
  run: async (context, args) => {
    if (args.flags.online && args.flags.offline) {
      throw new PgkitError("usage", "--online and --offline cannot be used together");
    }
    const { provision, dryRun } = args.flags;
    if (provision === undefined) return dryRun ? showPlan(context, args) : move(context, args);
    const { target, database } = moveTask(context, args);
    if (!dryRun) {
      await provisionInstance(context, provision, target);
      return move(context, args);
    }
    const isThere = await showProvision(context, provision, { target, database });
    return isThere ? showPlan(context, args) : 0;
  },
};

async function move(context: CommandContext, args: CommandArguments): Promise<number> {
  const { startMove } = await import("../../move/move.ts");
  const { withAudit } = await import("../../repo/audit.ts");
  const { clock, report, signal } = context;
  const { request, world, task } = await prepare(context, args);
  const details = { from: task.source.name, to: task.target.name, mode: request.mode };
  const work = { clock, report, signal, actor: auditActor(context), command: "move", subject: task.database, details };
  const journal = await withAudit(world.repository, work, () =>
    startMove(request, moveRun(context, world, task.database)),
  );
  return concludeMove(context, world.repository, journal);
}

/** The same plan that a move begins with, and nothing else. */
async function showPlan(context: CommandContext, args: CommandArguments): Promise<number> {
  const { planContext } = await import("../../move/move.ts");
  const { assess } = await import("../../move/preflight.ts");
  const { stepsOf } = await import("../../move/steps.ts");
  const { request, world, task } = await prepare(context, args);
  const { context: stepContext, close } = await planContext(request, world, context.signal);
  try {
    const assessment = await assess(stepContext);
    const { risks, estimates, way } = assessment;
    const steps = stepsOf(stepContext.move).map(({ name, does }) => ({ name, does }));
    const [from, to] = [task.source.name, task.target.name];
    const what = { database: task.database, from, to, mode: request.mode, state: "planned" };
    context.out.result({
      json: { ...what, possible: way.possible, steps, risks, estimates },
      text: planText(stepContext.move, [from, to], steps, assessment),
    });
    return assessment.risks.some(({ level }) => level === "refusal") ? 2 : 0;
  } finally {
    await close();
  }
}

async function prepare(context: CommandContext, args: CommandArguments) {
  const task = moveTask(context, args);
  const mode: MoveFacts["mode"] = args.flags.offline ? "offline" : "online";
  const options = moveOptionsOf(args, task.source, mode);
  const world = await moveWorld(context, task, options);
  const request = { application: task.application?.name, database: task.database, mode, options };
  return { request, world, task };
}
