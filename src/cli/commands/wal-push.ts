import type { Archive, ArchiveOf } from "../../wal/push.ts";
import type { Spool } from "../../wal/spool.ts";
import type { Command, CommandContext } from "../command.ts";
import { openWhereItWas } from "../known-place.ts";

/** PostgreSQL waits for no answer longer than this. */
const boundMs = 40_000;
const idleMs = 60_000;

export const walPushCommand: Command = {
  name: "wal push",
  summary: "Store a WAL file: the server's archive_command",
  arguments: [
    { name: "PATH", doc: "the file, as %p of archive_command; the folder it is run in is the data directory" },
  ],
  options: ["ready"],
  examples: [
    {
      line: "pgkit wal push pg_wal/000000010000000000000003",
      does: "ends with 0 when it is durable in every repository",
    },
    {
      line: "pgkit wal push --ready",
      does: "stores all that waits to be archived, as the worker in the background does",
    },
  ],
  run: async (context, args) => {
    const path = args.one("PATH");
    const { PgkitError } = await import("../../lib/errors.ts");
    if ((path === undefined) !== args.flags.ready) {
      throw new PgkitError("usage", "pgkit wal push takes either a path or --ready", {
        hint: "archive_command gives the path: pgkit wal push %p",
      });
    }
    const work = await pushing(context);
    return path === undefined ? await pushReady(context, work) : await pushOne(context, work, path);
  },
};

interface Work extends ArchiveOf {
  spool: Spool;
  archives: Archive[];
  /** Of all that the worker goes by. */
  mark: string;
}

async function pushing(context: CommandContext): Promise<Work> {
  const { archiveIn } = await import("../../wal/push.ts");
  const { openSpool } = await import("../../wal/spool.ts");
  const { readClusterFacts } = await import("../../wal/control.ts");
  const { createHash } = await import("node:crypto");
  const { config, clock, cwd: dataDir, version } = context;
  const { name: instance, archive } = context.instance();
  const spool = await openSpool(dataDir, archive.spool);
  const of = { instance, dataDir, cluster: await readClusterFacts(dataDir), clock };
  const archives = config.repositories.map((repository) =>
    archiveIn({ where: repository.url, open: () => openWhereItWas(context, repository, spool.folder) }, of),
  );
  const settings = JSON.stringify([version, config.repositories, archive]);
  const mark = createHash("sha256").update(settings).digest("hex").slice(0, 16);
  return { ...of, spool, archives, mark };
}

async function pushOne({ signal, self, places }: CommandContext, work: Work, path: string): Promise<number> {
  const { basename, resolve } = await import("node:path");
  const { pushRequested } = await import("../../wal/push-request.ts");
  const { startWorker } = await import("../../wal/worker-start.ts");
  const start = () => startWorker([...self, ...places, "wal", "push", "--ready"], work.dataDir);
  await pushRequested({ ...work, startWorker: start, boundMs, signal }, resolve(work.dataDir, path), basename(path));
  return 0;
}

async function pushReady(context: CommandContext, work: Work): Promise<number> {
  const { runPushWorker } = await import("../../wal/push-worker.ts");
  const { parallel } = context.instance().archive;
  const ran = await runPushWorker({ ...work, parallel, idleMs, signal: context.signal });
  if (!ran) context.report({ type: "note", message: `another process stores the WAL of ${work.dataDir} already` });
  return 0;
}
