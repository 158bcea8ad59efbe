import type { ArchivingFacts, FileSetting } from "../postgres/archiving.ts";

/** What pg_settings shows for archive_command while archive_mode is off, whatever is configured. */
const hiddenCommand = "(disabled)";

/**
 * What the server will run with after its next start: what runs, but where a restart is pending, and of what is hidden
 * what its files say. `undefined` for a setting that the server's major does not have.
 */
export function configuredValue(facts: ArchivingFacts, name: string): string | undefined {
  const setting = facts.settings.get(name);
  if (setting === undefined) return undefined;
  const inFile = lastInFiles(facts, name)?.value;
  if (setting.pendingRestart) return inFile === undefined ? setting.byDefault : normal(setting.context, inFile);
  if (setting.running === hiddenCommand) return inFile ?? "";
  return setting.running;
}

/** The entry of postgresql.auto.conf, as ALTER SYSTEM wrote it. */
export function autoValue({ files }: Pick<ArchivingFacts, "files">, name: string): string | undefined {
  return files?.findLast((entry) => entry.auto && entry.name === name)?.value;
}

/** What the files would have without postgresql.auto.conf; `undefined`: the default. */
export function valueBelowAuto({ files }: Pick<ArchivingFacts, "files">, name: string): string | undefined {
  return files?.findLast((entry) => !entry.auto && entry.name === name)?.value;
}

function lastInFiles({ files }: ArchivingFacts, name: string): FileSetting | undefined {
  return files?.findLast((entry) => entry.name === name);
}

/** Where it was started with this setting, which ALTER SYSTEM does not reach; `undefined` where it reaches it. */
export function beyondAlterSystem(facts: ArchivingFacts, name: string): string | undefined {
  const source = facts.settings.get(name)?.source ?? "";
  return ["command line", "environment variable", "override"].includes(source) ? source : undefined;
}

/** Settings that start with the server are words and whole numbers; a file may spell them in other ways. */
function normal(context: string, value: string): string {
  const word = value.trim().toLowerCase();
  if (context !== "postmaster") return value;
  if (["true", "yes"].includes(word)) return "on";
  return ["false", "no"].includes(word) ? "off" : word;
}
