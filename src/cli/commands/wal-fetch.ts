import type { Source } from "../../wal/fetch.ts";
import type { Spool } from "../../wal/spool.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";

/** What PostgreSQL takes for the end of the archive; every failure is 200 (exit-status.ts). */
const provenAbsent = 1;
const idleMs = 60_000;

export const walFetchCommand: Command = {
  name: "wal fetch",
  summary: "Fetch a WAL file: the restore_command of a recovery",
  arguments: [
    { name: "NAME", doc: "the file, as %f of restore_command" },
    { name: "PATH", doc: "where to put it, as %p of restore_command; the folder it is run in is the data directory" },
  ],
  options: ["ahead"],
  examples: [
    {
      line: "pgkit wal fetch 000000010000000000000003 pg_wal/RECOVERYXLOG",
      does: "ends with 0 when it is there, 1 when every repository says that it has no such file, else 200",
    },
  ],
  run: walFetch,
};

async function walFetch(context: CommandContext, args: CommandArguments): Promise<number> {
  const { PgkitError } = await import("../../lib/errors.ts");
  const { walFileKind } = await import("../../lib/lsn.ts");
  const [name, path] = [args.one("NAME"), args.one("PATH")];
  if (args.flags.ahead ? name !== undefined : name === undefined || path === undefined) {
    throw new PgkitError("usage", "pgkit wal fetch takes a name and a path, or --ahead", {
      hint: "restore_command gives both: pgkit wal fetch %f %p",
    });
  }
  const spool = await openedSpool(context);
  const sources = await sourcesOf(context);
  if (name === undefined || path === undefined) return await fetchAhead(context, spool, sources);
  if (walFileKind(name) === undefined) {
    throw new PgkitError("usage", `"${name}" is not the name of a WAL file`, {
      hint: "restore_command gives it as %f",
    });
  }
  const { resolve } = await import("node:path");
  const { fetchRequested } = await import("../../wal/fetch-request.ts");
  const { startWorker } = await import("../../wal/worker-start.ts");
  const { self, places, clock, signal, cwd } = context;
  const start = () => startWorker([...self, ...places, "wal", "fetch", "--ahead"], cwd);
  const found = await fetchRequested({ spool, sources, startWorker: start, clock, signal }, name, resolve(cwd, path));
  return found === "found" ? 0 : provenAbsent;
}

async function fetchAhead(context: CommandContext, spool: Spool, sources: readonly Source[]): Promise<number> {
  const { runFetchWorker } = await import("../../wal/fetch-worker.ts");
  const { segmentBytesOf } = await import("../../wal/fetch.ts");
  const { clock, signal } = context;
  const { parallel } = context.instance().archive;
  const segmentBytes = await segmentBytesOf(sources);
  const ran = await runFetchWorker({ spool, sources, segmentBytes, parallel, idleMs, clock, signal });
  if (!ran) context.report({ type: "note", message: `another process fetches WAL for ${spool.dataDir} already` });
  return 0;
}

async function openedSpool(context: CommandContext): Promise<Spool> {
  const { openSpool } = await import("../../wal/spool.ts");
  return await openSpool(context.cwd, context.instance().archive.spool);
}

async function sourcesOf(context: CommandContext): Promise<Source[]> {
  const { readClusterFacts } = await import("../../wal/control.ts");
  const { readLineage } = await import("../../repo/wal.ts");
  const { once } = await import("../../store/once.ts");
  const { signal, cwd } = context;
  const { name: instance } = context.instance();
  const { systemId } = await readClusterFacts(cwd);
  return context.config.repositories.map((config) => ({
    where: config.url,
    open: once(async () => {
      const repository = await context.openRepository(config);
      const lineage = await readLineage(repository, { instance, systemId }, { signal });
      return lineage && { repository, lineage };
    }),
  }));
}
