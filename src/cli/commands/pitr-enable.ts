import type { Session } from "../../postgres/session.ts";
import type { Prepared, RestartNeeded } from "../../wal/enable.ts";
import { auditActor } from "../actor.ts";
import { archiveCommandOf, existingRepositories } from "../archiving.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import type { InstanceConfig } from "../config.ts";
import { openWhereItWas, ownMemory } from "../known-place.ts";

export const pitrEnableCommand: Command = {
  name: "pitr enable",
  summary: "Set up on the server what continuous archiving needs, and say what waits for a restart",
  arguments: [{ name: "INSTANCE", doc: "the instance; may be left out when there is one" }],
  options: ["method", "newLineage", "replaceCommand", "dryRun"],
  examples: [
    { line: "pgkit pitr enable shared --dry-run", does: "what would be set, and why" },
    { line: "pgkit pitr enable shared", does: "by the method that the configuration names" },
    { line: "pgkit pitr enable shared --method archive", does: "the server itself gives its WAL to pgkit wal push" },
    { line: "pgkit pitr enable shared --new-lineage", does: "after pg_upgrade, or when the server was made anew" },
  ],
  run: async (context, args) => {
    const { withSession } = await import("../../postgres/session.ts");
    const instance = context.instance(args.one("INSTANCE"));
    const connection = await context.connection(instance);
    const session = { applicationName: "pgkit pitr enable", signal: context.signal };
    return await withSession(connection, session, async (open) => enable(context, args.flags, instance, open));
  },
};

async function enable(
  context: CommandContext,
  flags: CommandArguments["flags"],
  instance: InstanceConfig,
  session: Session,
): Promise<number> {
  const { prepareEnable } = await import("../../wal/enable.ts");
  const { signal, out } = context;
  const { archive, name } = instance;
  const asked = {
    ...{ instance: name, method: flags.method ?? archive.method, slot: archive.slot, timeoutMs: archive.timeoutMs },
    ...{ archiveCommand: archiveCommandOf(context, instance), replaceCommand: flags.replaceCommand },
  };
  const readers = await existingRepositories(context);
  const connection = await context.connection(instance);
  const options = { connection, newLineage: flags.newLineage, signal };
  const prepared = await prepareEnable(session, readers, asked, options);
  if (!out.json) out.result({ json: undefined, text: planText(prepared) });
  const restart = flags.dryRun ? [] : await carryOut(context, session, prepared);
  if (out.json || !flags.dryRun) {
    out.result({
      json: documentOf(prepared, restart, flags.dryRun),
      text: () => resultText(prepared, restart),
    });
  }
  return 0;
}

async function carryOut(context: CommandContext, session: Session, prepared: Prepared): Promise<RestartNeeded[]> {
  const { carryOutEnable } = await import("../../wal/enable.ts");
  const { withAudit } = await import("../../repo/audit.ts");
  const { clock, signal, report, config } = context;
  const repositories = await Promise.all(
    config.repositories.map((each) => openWhereItWas(context, each, ownMemory(context.env))),
  );
  const run = () => carryOutEnable(session, repositories, prepared, { clock, signal });
  const [first] = repositories;
  if (first === undefined) return await run();
  const { request, plan, lineage } = prepared;
  const details = {
    ...{ method: request.method, systemId: lineage.systemId, slot: plan.slot?.name },
    changes: plan.changes.map(({ setting, from, to }) => ({ setting, from, to })),
  };
  const work = { clock, signal, report, actor: auditActor(context), command: "pitr enable", details };
  return await withAudit(first, { ...work, subject: `instance ${request.instance}` }, run);
}

function documentOf(
  { request, plan, lineage, newLineage, others }: Prepared,
  restart: RestartNeeded[],
  dryRun: boolean,
) {
  const { instance, method } = request;
  const { systemId } = lineage;
  return {
    ...{ instance, method, dryRun, changes: plan.changes, restartNeeded: restart },
    ...(plan.slot === undefined ? {} : { slot: plan.slot }),
    lineage: { systemId, new: newLineage, others },
    notes: plan.notes,
  };
}

const slotWords = {
  create: "make it: it keeps WAL on the server until it is stored",
  replace: "it has lost WAL: drop it and make it anew; a base backup is needed after that",
  "after-restart": "to be made after the restart: run pgkit pitr enable again",
  kept: "is there already",
};

function planText({ request, plan, lineage, newLineage, others }: Prepared): string {
  const { changes, slot, notes } = plan;
  const beside = others.length === 0 ? "" : `, beside ${others.join(" and ")}, which stays restorable`;
  return [
    `continuous archiving of ${request.instance} by the method ${request.method}:`,
    ...changes.map(({ setting, from, to, needsRestart, why }) =>
      [`  ${setting}: ${shown(from)} -> ${shown(to)}`, needsRestart ? " (needs a restart)" : "", `; ${why}`].join(""),
    ),
    ...(changes.length === 0 ? ["  the server's settings are as they should be"] : []),
    ...(slot === undefined ? [] : [`  slot ${slot.name}: ${slotWords[slot.action]}`]),
    `  the WAL of system ${lineage.systemId}: ${newLineage ? `new in the repository${beside}` : "goes on"}`,
    ...notes.map((note) => `  note: ${note}`),
  ].join("\n");
}

function resultText({ request, plan }: Prepared, restart: readonly RestartNeeded[]): string {
  const { instance, method } = request;
  const waits = restart.map(
    ({ setting, running, configured, why }) =>
      `  ${setting}: runs with ${shown(running)}, then ${shown(configured)}: ${why}`,
  );
  const again =
    plan.slot?.action === "after-restart" ? [`then: pgkit pitr enable ${instance}, which makes the slot`] : [];
  const next = [
    ...(waits.length === 0 ? [] : ["restart the server; pgkit never does it by itself"]),
    ...again,
    ...(method === "stream" ? [`keep running: pgkit wal stream --instance ${instance}`] : []),
    `then: pgkit backup base --instance ${instance}, from which on every moment can be restored`,
    `and: pgkit pitr status ${instance}`,
  ];
  return ["", "done", ...(waits.length === 0 ? [] : ["waiting for a restart:", ...waits]), ...next].join("\n");
}

function shown(value: string): string {
  return value === "" ? "(empty)" : value;
}
