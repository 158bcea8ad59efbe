import type { Command, CommandArguments, CommandContext } from "../command.ts";
import { type FoundBackup, findEveryCopy, readRepositories } from "../read-repositories.ts";
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
    for (const { id, error, repository } of unreadable) {
      results.push({ id, repository, ok: false, problems: [error.message] });
    }
    for (const found of backups) results.push(await verifyOne(context, args, found));
    context.out.result({
      json: { results },
      text: () => harmless(results.map(line).join("\n") || "there are no backups"),
    });
    return results.every((result) => result.ok) ? 0 : verificationFailed;
  },
};

const verificationFailed = 40;

/** One a copy: a backup that went to two repositories has two. */
interface Result {
  id: string;
  repository: string;
  ok: boolean;
  problems: string[];
}

async function chosen(context: CommandContext, args: CommandArguments) {
  const ids = args.all("BACKUP...");
  if (ids.length === 0) return readRepositories(context, context.instanceName);
  const backups: FoundBackup[] = [];
  const unreadable: { id: string; error: Error; repository: string }[] = [];
  for (const id of ids) {
    const copies = await findEveryCopy(context, id);
    backups.push(...copies.found);
    unreadable.push(...copies.unreadable.map((each) => ({ id, ...each })));
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
  await note(context, found, problems, flags.deep);
  return { id: manifest.id, repository: repository.where, ok: problems.length === 0, problems };
}

/** So that prune does not take a damaged backup for one that is left. Who may only read verifies all the same. */
async function note(context: CommandContext, found: FoundBackup, problems: readonly string[], deep: boolean) {
  const { noteVerified } = await import("../../repo/damage.ts");
  const { isPgkitError } = await import("../../lib/errors.ts");
  const { clock, signal, report } = context;
  try {
    const repository = { ...found.repository, store: await context.openStore(found.config) };
    await noteVerified(repository, found.manifest, { problems, deep, clock, signal });
  } catch (error) {
    if (!isPgkitError(error) || error.code === "bug" || error.code === "cancelled") throw error;
    const message = `what was found of ${found.manifest.id} could not be noted in ${found.repository.where}: ${error.message}`;
    report({ type: "warning", message, hint: "prune does not know of it" });
  }
}

function line({ id, repository, ok, problems }: Result, _: number, all: readonly Result[]): string {
  const copies = all.filter((each) => each.id === id).length;
  const name = copies === 1 ? id : `${id} in ${repository}`;
  return ok ? `${name}  ok` : [`${name}  DAMAGED`, ...problems.map((problem) => `  ${problem}`)].join("\n");
}
