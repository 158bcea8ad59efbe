import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { DemoOutcome } from "../../demo/story.ts";
import type { DemoWorld } from "../../demo/world.ts";
import { PgkitError } from "../../lib/errors.ts";
import { formatDuration } from "../../lib/parse.ts";
import type { Report } from "../../lib/report.ts";
import type { Programs } from "../../postgres/programs.ts";
import type { Repository } from "../../repo/repository.ts";
import { auditActor } from "../actor.ts";
import type { Command, CommandContext } from "../command.ts";
import { table } from "../text.ts";

export const demoCommand: Command = {
  name: "demo",
  summary: "Show the whole story on a scratch server: backups, disasters, restores, also to a moment, and the proof",
  arguments: [{ name: "DIR", doc: "folder for the demo's repository; one in the user's data folder when left out" }],
  options: [],
  needsConfig: false,
  examples: [
    {
      line: "pgkit demo",
      does: "takes about half a minute, touches nothing of yours, keeps a repository to look around in",
    },
    { line: "pgkit demo /tmp/pgkit-demo", does: "with the repository there" },
  ],
  run: async (context, args) => {
    const { out, clock, report, signal } = context;
    const startedMs = clock.monotonicMs();
    const programs = await newestServer(context);
    const folder = await claimFolder(args.one("DIR") ?? defaultFolder(context));
    report({ type: "note", message: "pgkit demo: three databases, backups, disasters, and all of it back" });
    const repository = await newRepository(context, folder);
    const { withScratchServer } = await import("../../postgres/scratch-server.ts");
    const streamFolder = join(folder, "stream");
    const outcome = await withScratchServer(programs, { settings: archivable, signal }, (connection) =>
      tell(context, { repository, programs, connection, streamFolder, scratch: tmpdir() }),
    );
    await rm(streamFolder, { recursive: true, force: true });
    const ms = clock.monotonicMs() - startedMs;
    out.result({
      json: {
        folder,
        seconds: ms / 1000,
        backups: outcome.backups.map(({ id }) => id),
        proof: outcome.proof,
        moment: outcome.moment,
      },
      text: () => [...proofLines(outcome, ms), "", ...nextSteps(context, folder, outcome)].join("\n"),
    });
    return 0;
  },
};

/** What a scratch server does without, and recovery to a moment needs; a commit is then followed as soon as it is made. */
const archivable = {
  wal_level: "replica",
  max_wal_senders: "5",
  full_page_writes: "on",
  synchronous_commit: "on",
};

/** In the demo's configuration, and the sign that its folder may be removed. */
const firstLine = "# Written by pgkit demo; its next run removes this folder.";

async function newestServer({ env }: CommandContext): Promise<Programs> {
  const { findPrograms } = await import("../../postgres/programs.ts");
  const found = await findPrograms((env["PATH"] ?? "").split(":").filter((dir) => dir !== ""));
  const newest = found.find((programs) => programs.server && programs.major >= 15);
  if (newest !== undefined) return newest;
  throw new PgkitError(
    "tool-missing",
    "the demo needs the programs of a PostgreSQL server, 15 or newer, and found none",
    {
      hint: "install PostgreSQL by the system's packages: apt-get install postgresql",
    },
  );
}

function defaultFolder({ env }: CommandContext): string {
  return join(env["XDG_DATA_HOME"] || join(env["HOME"] || homedir(), ".local", "share"), "pgkit", "demo");
}

/** An empty folder, where nothing was or an earlier demo's; anything else is left alone. */
async function claimFolder(path: string): Promise<string> {
  const folder = resolve(path);
  const refused = `${folder} is not empty, and no demo of pgkit made it`;
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    if ((await readdir(folder)).length > 0) {
      const config = await readFile(join(folder, "pgkit.yaml"), "utf8");
      if (!config.startsWith(firstLine))
        throw new PgkitError("refused-overwrite", refused, { hint: "name another folder" });
      await rm(folder, { recursive: true });
      await mkdir(folder, { mode: 0o700 });
    }
    await writeFile(join(folder, "pgkit.yaml"), configuration(join(folder, "repository")));
    return folder;
  } catch (error) {
    if (!(error instanceof Error && "code" in error) || error instanceof PgkitError) throw error;
    if (error.code === "ENOENT") throw new PgkitError("refused-overwrite", refused, { hint: "name another folder" });
    throw new PgkitError("usage", `the demo cannot use the folder ${folder}: ${error.code}`, {
      hint: "name one that you may write to: pgkit demo DIR",
      cause: error,
    });
  }
}

function configuration(repository: string): string {
  return `${firstLine}
repository: ${pathToFileURL(repository).href}
instances:
  shared:
    url: postgresql://postgres@localhost:5432/postgres # the demo's server is gone; one of yours to restore into
    retention:
      logical: { keepLast: 3, keepDaily: 7 }
`;
}

async function newRepository(context: CommandContext, folder: string): Promise<Repository> {
  return context.openOrCreateRepository({
    name: "demo",
    url: pathToFileURL(join(folder, "repository")).href,
    storage: {},
    encryption: { recipients: [], identityFile: undefined },
    volumeBytes: 32 * 1024 ** 3,
    objectLockMs: undefined,
  });
}

async function tell(
  context: CommandContext,
  world: Pick<DemoWorld, "repository" | "programs" | "connection" | "streamFolder" | "scratch">,
): Promise<DemoOutcome> {
  const { tellStory } = await import("../../demo/story.ts");
  const { clock, report, signal, config, version } = context;
  const warnings: Report = (event) => (event.type === "warning" ? report(event) : undefined);
  return tellStory({
    ...world,
    ...{
      clock,
      signal,
      report: warnings,
      actor: auditActor(context),
      leaseMs: config.lease.ttlMs,
      pgkitVersion: version,
    },
    say: (message) => report({ type: "note", message }),
  });
}

function proofLines({ proof, moment }: DemoOutcome, ms: number): string[] {
  const titles = ["", "rows", "SHA-256 before", "after"].map((title) => ({ title }));
  const second = { database: "litellm, one second before its disaster", ...moment };
  const rows = [...proof, second].map(({ database, before, after }) => [
    ...[database, String(after.rows), before.hash.slice(0, 24), after.hash.slice(0, 24)],
  ]);
  return [
    "",
    "Proof: a hash over every row, column, index, constraint, sequence, owner and grant",
    table(titles, rows),
    `all as it was; ${formatDuration(ms)} in all, and the server is gone`,
  ];
}

function nextSteps({ env }: CommandContext, folder: string, { backups, moment }: DemoOutcome): string[] {
  // npm tells its scripts which of them it runs; there the command is not in the PATH.
  const pgkit = env["npm_lifecycle_event"] === "demo" ? "npx pgkit" : "pgkit";
  const id = backups.at(-1)?.id;
  return [
    `The repository stays until the next demo, in ${folder}:`,
    `  export PGKIT_CONFIG=${join(folder, "pgkit.yaml")}`,
    `  ${pgkit} list`,
    `  ${pgkit} show ${id}`,
    `  ${pgkit} verify --deep          # restores every backup once more, and compares`,
    `  ${pgkit} restore --data-dir ${join(tmpdir(), "pgkit-instance")} --to-time ${moment.time} --start   # the whole instance`,
    `  less ${join(folder, "repository", "RESTORE.md")}   # how to restore without pgkit`,
    "Your own databases, into a folder:",
    "  unset PGKIT_CONFIG",
    `  PGHOST=... PGUSER=postgres PGPASSWORD=... ${pgkit} backup logical --repository /backups`,
  ];
}
