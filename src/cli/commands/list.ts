import { formatBytes } from "../../lib/parse.ts";
import { inZone } from "../../lib/parse-time.ts";
import { backupJson } from "../backup-json.ts";
import type { Command, CommandContext } from "../command.ts";
import { errorJson } from "../failures.ts";
import { type Findings, type FoundBackup, readRepositories } from "../read-repositories.ts";
import { table } from "../text.ts";

export const listCommand: Command = {
  name: "list",
  summary: "List the backups, and until when each database can be restored",
  arguments: [],
  options: [],
  examples: [
    { line: "pgkit list", does: "every backup, oldest first" },
    { line: "pgkit list --instance shared --json", does: "one instance's, for a script" },
  ],
  run: async (context) => {
    const findings = await readRepositories(context, context.instanceName);
    const kept = await keptUntilOf(context, findings);
    context.out.result({
      json: {
        backups: findings.backups.map(({ manifest, repository }) => ({
          ...backupJson(manifest, kept.get(manifest.id)),
          repository: repository.where,
        })),
        windows: [],
        ...(findings.unreadable.length === 0
          ? {}
          : { unreadable: findings.unreadable.map(({ error, ...each }) => ({ ...each, ...errorJson(error) })) }),
      },
      text: () => textOf(findings, kept, context.config.timeZone),
    });
    return findings.unreadable[0]?.error.exitStatus ?? 0;
  },
};

async function keptUntilOf(context: CommandContext, { backups }: Findings): Promise<Map<string, string>> {
  const { keptUntil, readKeeps } = await import("../../repo/keep.ts");
  const repositories = new Set(backups.map(({ repository }) => repository));
  const kept = new Map<string, string>();
  for (const repository of repositories) {
    for (const keep of await readKeeps(repository, { signal: context.signal })) {
      const until = keptUntil(keep, context.clock.now());
      if (until !== undefined) kept.set(keep.id, until);
    }
  }
  return kept;
}

function textOf({ backups, unreadable }: Findings, kept: Map<string, string>, timeZone: string): string {
  if (backups.length === 0 && unreadable.length === 0)
    return "there are no backups yet: pgkit backup logical makes some";
  const columns = ["ID", "INSTANCE", "KIND", "DATABASE", "STARTED", "SIZE", "STORED", "KEPT"];
  const rows = backups.map(({ manifest }) => [
    manifest.id,
    manifest.instance,
    manifest.kind,
    manifest.database ?? "",
    inZone(new Date(manifest.startedAt), timeZone),
    formatBytes(manifest.logical?.sizeBytes ?? manifest.plainBytes),
    formatBytes(manifest.storedBytes),
    kept.get(manifest.id) ?? "",
  ]);
  const lines = unreadable.map(({ id, error }) => `UNREADABLE ${id}: ${error.message}`);
  return [
    ...(rows.length === 0
      ? []
      : [
          table(
            columns.map((title) => ({ title })),
            rows,
          ),
          "",
          newest(backups, timeZone),
        ]),
    ...lines,
  ].join("\n");
}

/** A logical backup brings its database back to the moment of its snapshot. */
function newest(backups: readonly FoundBackup[], timeZone: string): string {
  const latest = new Map<string, FoundBackup["manifest"]>();
  for (const { manifest } of backups) {
    if (manifest.database !== undefined) latest.set(JSON.stringify([manifest.instance, manifest.database]), manifest);
  }
  const rows = [...latest.values()].map((manifest) => [
    manifest.instance,
    manifest.database ?? "",
    inZone(new Date(manifest.startedAt), timeZone),
    manifest.id,
  ]);
  return table(
    ["INSTANCE", "DATABASE", "RESTORABLE UNTIL", "FROM"].map((title) => ({ title })),
    rows,
  );
}
