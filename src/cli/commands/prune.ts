import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import type { Manifest } from "../../repo/manifest.ts";
import type { PruneResult } from "../../repo/prune.ts";
import type { Repository } from "../../repo/repository.ts";
import type { PrunePlan } from "../../repo/retention.ts";
import { auditActor, leaseOptions } from "../actor.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import type { RepositoryConfig } from "../config.ts";
import { isNothing, pruneDocument, pruneText, removalsOf, resultText, summaryOf } from "../prune-text.ts";

export const pruneCommand: Command = {
  name: "prune",
  summary: "Remove the backups that the retention of their instance does not keep, and what failed runs left",
  arguments: [],
  options: ["dryRun", "yes", "singleWriter"],
  examples: [
    { line: "pgkit prune --dry-run", does: "what would be removed, and why the rest is kept" },
    { line: "pgkit prune --yes", does: "removes it without asking, as a scheduled job does" },
    { line: "pgkit prune --instance shared", does: "one instance alone; asks first" },
  ],
  run: async (context, { flags }) => {
    const planned: Planned[] = [];
    const failed: Failed[] = [];
    for (const config of context.config.repositories) {
      await collect(failed, config, async () => void planned.push(await planFor(context, config, flags)));
    }
    if (planned.length > 0 && !context.out.json) showPlans(context, planned);
    const todo = planned.filter(({ plan }) => !isNothing(removalsOf(plan)));
    if (todo.length > 0 && !flags.dryRun) {
      await context.confirm(`removes ${todo.map(({ plan }) => summaryOf(removalsOf(plan))).join("; ")} for good`);
      for (const each of todo) {
        await collect(failed, each.config, async () => {
          each.result = await carryOut(context, each, flags);
        });
      }
    }
    const [first] = failed;
    if (first !== undefined && context.config.repositories.length === 1) throw first.error;
    if (context.out.json || !flags.dryRun) showResults(context, planned, flags);
    return statusOf(planned, failed);
  },
};

interface Planned {
  readonly config: RepositoryConfig;
  readonly repository: Repository;
  readonly plan: PrunePlan<Manifest>;
  result?: PruneResult;
}

interface Failed {
  readonly repository: string;
  readonly error: PgkitError;
}

type Flags = CommandArguments["flags"];

/** One repository that fails does not stop the others. */
async function collect(failed: Failed[], { name }: RepositoryConfig, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isPgkitError(error) || isPgkitError(error, "bug", "cancelled", "usage", "config")) throw error;
    failed.push({ repository: name, error });
  }
}

async function planFor(context: CommandContext, config: RepositoryConfig, flags: Flags): Promise<Planned> {
  const { readInventory } = await import("../../repo/inventory.ts");
  const { readDamage, withChildren } = await import("../../repo/damage.ts");
  const { planWithLocks } = await import("../../repo/plan-prune.ts");
  const { clock, signal } = context;
  const store = await context.openStore(config);
  const repository = { ...(await context.openRepository(config)), store };
  // To learn the store's clock takes a write, and a dry run writes nothing.
  const skewMs = flags.dryRun ? 0 : (await store.capabilities({ signal })).clockSkewMs;
  const now = clock.now();
  const inventory = await readInventory(repository, { storeNow: new Date(now.getTime() + skewMs), signal });
  const damaged = new Set((await readDamage(repository, { signal })).keys());
  const bad = withChildren(inventory.backups, damaged);
  const instances = context.instances();
  const policies = new Map(instances.map(({ name, retention }) => [name, retention]));
  const only = instances.length < context.config.instances.size ? new Set(policies.keys()) : undefined;
  const { timeZone } = context.config;
  return {
    config,
    repository,
    plan: await planWithLocks(repository, inventory, { policies, timeZone, now, bad, only, signal }),
  };
}

async function carryOut(context: CommandContext, { repository, plan }: Planned, flags: Flags): Promise<PruneResult> {
  const { withAudit } = await import("../../repo/audit.ts");
  const { prune } = await import("../../repo/prune.ts");
  const { clock, report, signal } = context;
  const names = (list: readonly { instance: string; id: string }[]) =>
    list.map(({ instance, id }) => `${instance}/${id}`);
  const wal = plan.wal.map(({ lineage, remove }) => ({
    ...{ instance: lineage.instance, systemId: lineage.systemId, files: remove.length },
    ...{ first: remove[0]?.name, last: remove.at(-1)?.name },
  }));
  const details = { remove: names(plan.remove), leftovers: names(plan.leftovers), wal };
  const work = {
    clock,
    report,
    signal,
    actor: auditActor(context),
    command: "prune",
    subject: repository.where,
    details,
  };
  return await withAudit(repository, work, async (addDetails) => {
    const result = await prune(repository, plan, {
      ...leaseOptions(context, "pgkit prune"),
      singleWriter: flags.singleWriter,
    });
    const { removed, skipped, refused } = result;
    addDetails({ removed: names(removed), skipped: names(skipped), refused: names(refused) });
    return result;
  });
}

function showPlans({ out, report }: CommandContext, planned: readonly Planned[]): void {
  out.result({
    json: undefined,
    text: () => planned.map(({ repository, plan }) => pruneText(repository.where, plan)).join("\n\n"),
  });
  for (const message of planned.flatMap(({ plan }) => plan.warnings)) report({ type: "warning", message });
}

function showResults({ out }: CommandContext, planned: readonly Planned[], { dryRun }: Flags): void {
  const document = ({ repository, plan, result }: Planned) => pruneDocument(repository.where, plan, result, dryRun);
  out.result({
    json: { repositories: planned.map(document) },
    text: () => resultText(planned.flatMap(({ result }) => (result === undefined ? [] : [result]))),
  });
}

function statusOf(planned: readonly Planned[], failed: readonly Failed[]): number {
  const refused = planned.flatMap(({ result }) => [
    ...(result?.refused ?? []),
    ...(result?.wal ?? []).flatMap(({ instance, systemId, refused: error }) =>
      error === undefined ? [] : [{ instance, id: `WAL of ${systemId}`, error }],
    ),
  ]);
  const [first] = failed;
  if (first === undefined && refused.length === 0) return 0;
  const parts = [
    ...failed.map(({ repository, error }) => `${repository}: ${error.message}`),
    ...refused.map(({ instance, id, error }) => `${instance}/${id}: ${error.message}`),
  ];
  throw new PgkitError("partly-done", `not everything was pruned: ${parts.join("; ")}`, {
    hint: first?.error.hint ?? refused[0]?.error.hint ?? "may these credentials remove objects?",
  });
}
