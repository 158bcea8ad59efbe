import { formatBytes } from "../../lib/parse.ts";
import { inZone } from "../../lib/parse-time.ts";
import type { Manifest } from "../../repo/manifest.ts";
import { backupJson } from "../backup-json.ts";
import type { Command, CommandContext } from "../command.ts";
import { errorJson } from "../failures.ts";
import { type Findings, type FoundBackup, readRepositories } from "../read-repositories.ts";
import { restorableUntil } from "../restorable.ts";
import { harmless, table } from "../text.ts";
import { type FoundWindow, readWindows, windowJson, windowsText } from "../windows.ts";

export const listCommand: Command = {
  name: "list",
  summary: "List the backups, the windows of time that can be restored, and until when each database can be",
  arguments: [],
  options: [],
  examples: [
    { line: "pgkit list", does: "every backup, oldest first" },
    { line: "pgkit list --instance shared --json", does: "one instance's, for a script" },
  ],
  run: async (context) => {
    const findings = await readRepositories(context, context.instanceName);
    const kept = await keptUntilOf(context, findings);
    const damage = await damageOf(context, findings);
    const windows = await readWindows(context, findings);
    context.out.result({
      json: {
        backups: findings.backups.map(({ manifest, repository }) => ({
          ...backupJson(manifest, kept.get(manifest.id), damage.get(copyName({ manifest, repository }))),
          repository: repository.where,
        })),
        windows: windows.map(windowJson),
        ...(findings.unreadable.length === 0
          ? {}
          : { unreadable: findings.unreadable.map(({ error, ...each }) => ({ ...each, ...errorJson(error) })) }),
      },
      text: () => textOf(findings, kept, damage, windows, context.config.timeZone),
    });
    return findings.unreadable[0]?.error.exitStatus ?? 0;
  },
};

function copyName({ manifest, repository }: Pick<FoundBackup, "manifest" | "repository">): string {
  return `${repository.where} ${manifest.instance}/${manifest.id}`;
}

/** What verifications have found, by the names of copies: another repository's may be whole. */
async function damageOf(context: CommandContext, { backups }: Findings): Promise<Map<string, string[]>> {
  const { readDamage } = await import("../../repo/damage.ts");
  const { nameOf } = await import("../../repo/retention.ts");
  const found = new Map<string, string[]>();
  for (const repository of new Set(backups.map((each) => each.repository))) {
    const damage = await readDamage(repository, { signal: context.signal });
    if (damage.size === 0) continue;
    for (const copy of backups.filter((each) => each.repository === repository)) {
      const record = damage.get(nameOf(copy.manifest));
      if (record !== undefined) found.set(copyName(copy), record.problems);
    }
  }
  return found;
}

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

function textOf(
  { backups, unreadable }: Findings,
  kept: Map<string, string>,
  damage: Map<string, string[]>,
  windows: readonly FoundWindow[],
  timeZone: string,
): string {
  if (backups.length === 0 && unreadable.length === 0)
    return "there are no backups yet: pgkit backup logical makes some";
  const manifests = backups.map(({ manifest }) => manifest);
  const lines = [
    ...backups.flatMap((copy) => {
      const [problem] = damage.get(copyName(copy)) ?? [];
      return problem === undefined ? [] : [harmless(`DAMAGED ${copy.manifest.id}: ${problem}`)];
    }),
    ...unreadable.map(({ id, error }) => `UNREADABLE ${id}: ${error.message}`),
  ];
  const tables = [
    ...(manifests.length === 0 ? [] : [backupsText(manifests, kept, timeZone)]),
    ...(windows.length === 0 ? [] : [windowsText(windows, timeZone)]),
    ...(manifests.length === 0 ? [] : [restorableText(manifests, windows, timeZone)]),
  ];
  return [tables.join("\n\n"), ...lines].filter((part) => part !== "").join("\n");
}

function backupsText(manifests: readonly Manifest[], kept: Map<string, string>, timeZone: string): string {
  const columns = ["ID", "INSTANCE", "KIND", "DATABASE", "STARTED", "SIZE", "STORED", "KEPT"];
  return table(
    columns.map((title) => ({ title })),
    manifests.map((manifest) => [
      manifest.id,
      manifest.instance,
      manifest.parent === undefined ? manifest.kind : `${manifest.kind} on ${manifest.parent}`,
      manifest.database ?? "",
      inZone(new Date(manifest.startedAt), timeZone),
      formatBytes(manifest.logical?.sizeBytes ?? manifest.base?.sizeBytes ?? manifest.plainBytes),
      formatBytes(manifest.storedBytes),
      kept.get(manifest.id) ?? "",
    ]),
  );
}

function restorableText(manifests: readonly Manifest[], windows: readonly FoundWindow[], timeZone: string): string {
  const columns = ["INSTANCE", "DATABASE", "RESTORABLE UNTIL", "FROM"];
  return table(
    columns.map((title) => ({ title })),
    restorableUntil(manifests, windows).map(({ instance, database, until, isEstimate, from }) => [
      instance,
      database,
      `${isEstimate ? "about " : ""}${inZone(until, timeZone)}`,
      from,
    ]),
  );
}
