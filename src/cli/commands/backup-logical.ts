import { formatBytes } from "../../lib/parse.ts";
import { leaseOptions } from "../actor.ts";
import { concludeBackups, type MadeBackup, proofText } from "../backup-outcome.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import { openWhereItWas, ownMemory } from "../known-place.ts";

export const backupLogicalCommand: Command = {
  name: "backup logical",
  summary: "Back up each database of an instance by pg_dump, with its roles, grants, settings and extensions",
  arguments: [{ name: "DB...", doc: "databases; all but the excluded when none is named" }],
  options: ["jobs", "inKubernetes", "detach"],
  examples: [
    { line: "pgkit backup logical", does: "every database of the only instance" },
    { line: "pgkit backup logical litellm n8n --instance shared", does: "two databases of one of several instances" },
    { line: "pgkit backup logical litellm --in-kubernetes", does: "by a Job in the cluster, followed from here" },
    { line: "PGHOST=db PGUSER=postgres pgkit backup logical --repository /backups", does: "without a file" },
  ],
  run: async (context, args) => {
    if (!args.flags.inKubernetes) return backupLogicalOf(context, args);
    const { backupInKubernetes } = await import("../backup-in-kubernetes.ts");
    return backupInKubernetes(context, "logical", args.flags);
  },
};

async function backupLogicalOf(context: CommandContext, args: CommandArguments): Promise<number> {
  const { backupLogical } = await import("../../backup/logical.ts");
  const { withDestinations } = await import("../../backup/destinations.ts");
  const { programsFor } = await import("../../postgres/programs.ts");
  const { config, signal, clock, report } = context;
  const instance = context.instance();
  const connection = await context.connection(instance);
  const openers = config.repositories.map((repository) => ({
    where: repository.url,
    open: () => openWhereItWas(context, repository, ownMemory(context.env)),
  }));
  const lease = { ...leaseOptions(context, "backup logical"), withoutConditions: "proceed" as const };
  const outcome = await withDestinations(openers, instance.name, lease, async (destinations, failures) => {
    const [first] = failures;
    if (destinations.length === 0 && first !== undefined) throw first.error;
    const made = await backupLogical(
      {
        instance: instance.name,
        connection,
        databases: args.all("DB..."),
        ...instance.databases,
        connections: instance.connections,
        jobs: args.flags.jobs ?? instance.jobs,
        wholeBelowBytes: instance.wholeBelowBytes,
        countRows: instance.countRows,
      },
      destinations,
      {
        programsFor: (major) => programsFor(major, config.postgresBin),
        pgkitVersion: context.version,
        ...{ clock, report, signal },
      },
    );
    return { made: made.made, failures: [...failures, ...made.failures] };
  });
  return concludeBackups(context, outcome, { madeLine, nextStep });
}

function madeLine(made: MadeBackup): string {
  const { id, storedBytes, logical } = made.manifest;
  return `${id}  ${logical?.tables.length ?? 0} tables, ${formatBytes(storedBytes)} stored, proven by ${proofText(made)}`;
}

function nextStep({ manifest }: MadeBackup): string[] {
  return [`check one with: pgkit verify ${manifest.id} --deep`];
}
