import type { Session } from "../../postgres/session.ts";
import type { PreparedDisable } from "../../wal/disable.ts";
import type { DisablePlan } from "../../wal/disable-plan.ts";
import type { RestartNeeded } from "../../wal/enable.ts";
import { auditActor } from "../actor.ts";
import { existingRepositories } from "../archiving.ts";
import type { Command, CommandContext } from "../command.ts";

export const pitrDisableCommand: Command = {
  name: "pitr disable",
  summary: "Undo what pgkit pitr enable changed on the server, and nothing else; what is stored stays",
  arguments: [{ name: "INSTANCE", doc: "the instance; may be left out when there is one" }],
  options: ["dryRun", "yes"],
  examples: [
    { line: "pgkit pitr disable shared --dry-run", does: "what would be undone, and what was changed since and stays" },
    { line: "pgkit pitr disable shared --yes", does: "without asking" },
  ],
  run: async (context, args) => {
    const { withSession } = await import("../../postgres/session.ts");
    const instance = context.instance(args.one("INSTANCE"));
    const connection = await context.connection(instance);
    const options = { applicationName: "pgkit pitr disable", signal: context.signal };
    return await withSession(connection, options, (session) => disable(context, instance.name, session, args.flags));
  },
};

async function disable(
  context: CommandContext,
  name: string,
  session: Session,
  { dryRun }: { dryRun: boolean },
): Promise<number> {
  const { prepareDisable } = await import("../../wal/disable.ts");
  const { out, signal } = context;
  const prepared = await prepareDisable(session, await existingRepositories(context), name, signal);
  const { plan, lineage } = prepared;
  if (plan === undefined) {
    const none = { instance: name, dryRun, changes: [], droppedSlots: [], leftAlone: [], restartNeeded: [] };
    const text = `nothing to do: no repository has a record that pgkit set up archiving on the system ${lineage.systemId}`;
    out.result({ json: none, text });
    return 0;
  }
  if (!out.json) out.result({ json: undefined, text: planText(name, plan) });
  if (!dryRun) await context.confirm(`ends the continuous archiving of ${name}: no moment after now can be restored`);
  const restart = dryRun ? [] : await carryOut(context, session, { ...prepared, plan });
  if (out.json || !dryRun) {
    const { changes, dropSlots: droppedSlots, leftAlone } = plan;
    out.result({
      json: { instance: name, dryRun, changes, droppedSlots, leftAlone, restartNeeded: restart },
      text: () => resultText(restart),
    });
  }
  return 0;
}

async function carryOut(
  context: CommandContext,
  session: Session,
  prepared: PreparedDisable & { plan: DisablePlan },
): Promise<RestartNeeded[]> {
  const { carryOutDisable } = await import("../../wal/disable.ts");
  const { withAudit } = await import("../../repo/audit.ts");
  const { clock, signal, report, config } = context;
  const repositories = await Promise.all(config.repositories.map((each) => context.openOrCreateRepository(each)));
  const run = () => carryOutDisable(session, repositories, prepared, { clock, signal });
  const [first] = repositories;
  if (first === undefined) return await run();
  const { lineage, plan } = prepared;
  const details = { systemId: lineage.systemId, changes: plan.changes, dropSlots: plan.dropSlots };
  const work = { clock, signal, report, actor: auditActor(context), command: "pitr disable", details };
  return await withAudit(first, { ...work, subject: `instance ${lineage.instance}` }, run);
}

function planText(name: string, { changes, dropSlots, leftAlone }: DisablePlan): string {
  return [
    `undoing the continuous archiving of ${name}:`,
    ...changes.map(
      ({ setting, to, needsRestart }) =>
        `  ${setting}: ${to === undefined ? "taken out of postgresql.auto.conf" : `back to ${to === "" ? "(empty)" : to}`}${needsRestart ? " (needs a restart)" : ""}`,
    ),
    ...dropSlots.map((slot) => `  slot ${slot}: dropped`),
    ...leftAlone.map(({ name: what, why }) => `  ${what}: left as it is, ${why}`),
    ...(changes.length + dropSlots.length + leftAlone.length === 0 ? ["  nothing of it is left on the server"] : []),
  ].join("\n");
}

function resultText(restart: readonly RestartNeeded[]): string {
  const stays = "the WAL and the base backups in the repository stay, and can be restored";
  if (restart.length === 0) return `\ndone; ${stays}`;
  const names = restart.map(({ setting }) => setting);
  const grows = names.includes("archive_mode")
    ? ["until then the server archives nothing and keeps all its new WAL in pg_wal: restart it soon"]
    : [];
  return [`\ndone; ${stays}`, `waiting for a restart: ${names.join(", ")}`, ...grows].join("\n");
}
