import { isPgkitError } from "../lib/errors.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { archiveCommand, type ServerCommands, shellWords } from "../wal/archive-command.ts";
import type { CommandContext } from "./command.ts";
import type { InstanceConfig } from "./config.ts";

/** What archive_command and restore_command of an instance are made of. */
export function serverCommandsOf(context: CommandContext, { name, archive }: InstanceConfig): ServerCommands {
  return { instance: name, spool: archive.spool, command: archive.command ?? shellWords(ownWords(context)) };
}

export function archiveCommandOf(context: CommandContext, instance: InstanceConfig): string {
  return archiveCommand(serverCommandsOf(context, instance));
}

/** This pgkit with its configuration, for a process that has neither our folder nor our environment. */
function ownWords({ self, config, env }: CommandContext): string[] {
  const file = config.file === undefined ? [] : ["--config", config.file];
  const [first] = config.repositories;
  const named = config.file === undefined || Boolean(env["PGKIT_REPOSITORY"]);
  return [...self, ...file, ...(named && first !== undefined ? ["--repository", first.url] : [])];
}

/** Every configured repository that is there; one that is not made yet knows of nothing. */
export async function existingRepositories(context: CommandContext): Promise<RepositoryReader[]> {
  const readers: RepositoryReader[] = [];
  for (const config of context.config.repositories) {
    try {
      readers.push(await context.openRepository(config));
    } catch (error) {
      if (!isPgkitError(error, "repository-missing")) throw error;
    }
  }
  return readers;
}
