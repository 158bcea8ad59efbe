import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { rfc3339 } from "../../lib/time.ts";
import type { Manifest } from "../../repo/manifest.ts";
import type { Repository } from "../../repo/repository.ts";
import { auditActor } from "../actor.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import type { RepositoryConfig } from "../config.ts";

export const keepCommand: Command = {
  name: "keep",
  summary: "Pin a backup, so that it is not pruned, or release it",
  arguments: [{ name: "BACKUP", required: true, doc: "the backup's id, as pgkit list shows it" }],
  options: ["until", "forever", "release", "reason", "dryRun"],
  examples: [
    { line: "pgkit keep litellm-20261121T020000Z-3f9a --until 2027-03-31 --reason audit", does: "keeps it till then" },
    { line: "pgkit keep litellm-20261121T020000Z-3f9a --until +90d", does: "keeps it for 90 days from now" },
    { line: "pgkit keep litellm-20261121T020000Z-3f9a --release", does: "lets retention decide again" },
  ],
  run: async (context, args) => {
    const wanted = wantedOf(context, args.flags);
    const id = args.one("BACKUP") ?? "";
    const done: Done[] = [];
    const missing: PgkitError[] = [];
    for (const config of context.config.repositories) {
      try {
        done.push(await keepIn(context, config, id, wanted, args.flags));
      } catch (error) {
        // Not each repository has each backup: it was added later, or could not be reached that night.
        if (!isPgkitError(error, "backup-missing", "repository-missing")) throw error;
        missing.push(error);
      }
    }
    if (done.length === 0) throw missing[0] ?? new PgkitError("repository-missing", "no repository is configured");
    context.out.result({
      json: { backups: done.map(({ json }) => json) },
      text: done.map(({ text }) => text).join("\n"),
    });
    return 0;
  },
};

type Wanted = { until: Date | "forever" } | "release";

interface Done {
  readonly json: unknown;
  readonly text: string;
}

function wantedOf(context: CommandContext, { until, forever, release }: CommandArguments["flags"]): Wanted {
  if ([until !== undefined, forever, release].filter(Boolean).length !== 1) {
    throw new PgkitError("usage", "pgkit keep takes one of --until, --forever and --release", {
      hint: "how long should the backup be kept? for example --until +90d",
    });
  }
  if (until !== undefined) return { until: context.time(until).time };
  return forever ? { until: "forever" } : "release";
}

async function keepIn(
  context: CommandContext,
  config: RepositoryConfig,
  id: string,
  wanted: Wanted,
  { reason, dryRun }: CommandArguments["flags"],
): Promise<Done> {
  const { withAudit } = await import("../../repo/audit.ts");
  const { findBackup } = await import("../../repo/backups.ts");
  const { pin, release } = await import("../../repo/keep.ts");
  const { clock, report, signal } = context;
  const actor = auditActor(context);
  const store = await context.openStore(config);
  const repository: Repository = { ...(await context.openRepository(config)), store };
  const backup = await findBackup(repository, id, { signal });
  const done = doneOf(repository, backup, wanted, dryRun);
  if (dryRun) return done;
  const details =
    wanted === "release" ? { release: true } : { until: wanted.until, ...(reason === undefined ? {} : { reason }) };
  const work = { clock, report, signal, actor, command: "keep", subject: `${backup.instance}/${id}`, details };
  await withAudit(repository, work, async () => {
    if (wanted === "release") await release(repository, id, { signal });
    else await pin(repository, id, { clock, until: wanted.until, by: actor.who, reason, signal });
  });
  return done;
}

function doneOf({ where }: Repository, { instance, id }: Manifest, wanted: Wanted, dryRun: boolean): Done {
  const until = wanted === "release" ? undefined : wanted.until === "forever" ? wanted.until : rfc3339(wanted.until);
  const pinned = until === "forever" ? "pinned for ever" : `pinned until ${until}`;
  return {
    json: { id, instance, repository: where, dryRun, ...(until === undefined ? {} : { keptUntil: until }) },
    text: `${instance}/${id} ${dryRun ? "would be" : "is"} ${until === undefined ? "no longer pinned" : pinned} in ${where}`,
  };
}
