import { isPgkitError } from "../../lib/errors.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import { type FoundBackup, findInRepositories, readRepositories } from "../read-repositories.ts";
import { harmless } from "../text.ts";

export const verifyCommand: Command = {
  name: "verify",
  summary: "Read stored backups back and check every byte; --deep restores them into a scratch server",
  arguments: [{ name: "BACKUP...", doc: "ids; every backup when none is named" }],
  options: ["deep", "jobs"],
  examples: [
    { line: "pgkit verify", does: "every backup of every repository" },
    { line: "pgkit verify litellm-20261121T020000Z-3f9a --deep", does: "proves that one restores" },
  ],
  run: async (context, args) => {
    const results: Result[] = [];
    const { backups, unreadable } = await chosen(context, args);
    for (const { id, error } of unreadable) results.push({ id, ok: false, problems: [error.message] });
    for (const found of backups) results.push(await verifyOne(context, args, found));
    context.out.result({
      json: { results },
      text: () => harmless(results.map(line).join("\n") || "there are no backups"),
    });
    return results.every((result) => result.ok) ? 0 : verificationFailed;
  },
};

const verificationFailed = 40;

interface Result {
  id: string;
  ok: boolean;
  problems: string[];
}

async function chosen(context: CommandContext, args: CommandArguments) {
  const ids = args.all("BACKUP...");
  if (ids.length === 0) return readRepositories(context, context.instanceName);
  const backups: FoundBackup[] = [];
  const unreadable: { id: string; error: Error }[] = [];
  for (const id of ids) {
    try {
      backups.push(await findInRepositories(context, id));
    } catch (error) {
      if (!isPgkitError(error, "manifest-corrupt")) throw error;
      unreadable.push({ id, error });
    }
  }
  return { backups, unreadable };
}

async function verifyOne(context: CommandContext, { flags }: CommandArguments, found: FoundBackup): Promise<Result> {
  const { verifyBackup } = await import("../../prove/verify.ts");
  const { programsFor } = await import("../../postgres/programs.ts");
  const { clock, report, signal, config } = context;
  const { manifest, repository } = found;
  const problems = await verifyBackup({
    repository,
    backup: manifest,
    deep: flags.deep,
    programsFor: (major, options) => programsFor(major, config.postgresBin, options),
    jobs: flags.jobs ?? 2,
    ...{ clock, report, signal },
  });
  return { id: manifest.id, ok: problems.length === 0, problems };
}

function line({ id, ok, problems }: Result): string {
  return ok ? `${id}  ok` : [`${id}  DAMAGED`, ...problems.map((problem) => `  ${problem}`)].join("\n");
}
