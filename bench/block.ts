import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { application, applicationUrl, makeApplication, startMoveClusters } from "../test/move/support.ts";
import { startWriter } from "../test/move/writer.ts";
import { startPgBouncer } from "../test/support/pgbouncer.ts";
import { pgkitFor } from "../test/support/pgkit.ts";
import { median } from "./measure.ts";
import { type Row, rounds } from "./rows.ts";

/** What pgbench writes a second, through PgBouncer, all the time. */
const transactionsPerSecond = 500;

/**
 * How long an application behind PgBouncer waits while its database is moved online and rolled back: the longest time
 * between two acknowledged commits of a client, in the median; and that no client saw an error.
 */
export async function moveBlock(): Promise<Row[]> {
  await using clusters = await startMoveClusters({ source: { durable: true }, target: { durable: true } });
  const { source } = clusters;
  await makeApplication(source);
  await using pgbouncer = await startPgBouncer({
    databases: `litellm = host=127.0.0.1 port=${source.port} dbname=litellm`,
    users: { [application.user]: application.password },
  });
  const admin = pgbouncer.admin.replace("@", `:${encodeURIComponent(pgbouncer.adminPassword)}@`);
  const { configFile } = pgbouncer;
  await using pgkit = await pgkitFor({ shared: { cluster: source }, own: { cluster: clusters.target } }, [
    ...["applications:", "  litellm:", "    instance: shared", "    dedicated: own", "    switch:"],
    `      pgbouncer: { admin: ${JSON.stringify(admin)}, databases: [litellm], configFile: ${configFile} }`,
  ]);
  const url = new URL(applicationUrl(source, "litellm"));
  url.port = String(pgbouncer.port);
  const writer = startWriter({ url: () => url.href });
  const load = await startLoad(source.binDir, url);
  const waits: { there: number[]; back: number[]; blocked: number[] } = { there: [], back: [], blocked: [] };
  for (let round = 0; round < rounds + 2; round++) {
    await writer.more(100);
    writer.resetGap();
    const moved = await pgkit.json<{ writeBlockedMs: number }>(["move", "litellm", "--to", "dedicated"]);
    await writer.more(100);
    waits.there.push(writer.longestGapMs());
    waits.blocked.push(moved.writeBlockedMs);
    writer.resetGap();
    await pgkit.json(["move", "rollback", "litellm"]);
    await writer.more(100);
    waits.back.push(writer.longestGapMs());
    console.error(
      `  round ${round + 1}: ${waits.there.at(-1)?.toFixed(0)} ms there, ${waits.back.at(-1)?.toFixed(0)} ms back`,
    );
  }
  await writer.stop();
  const errors = writer.errors.length + (await load.stop());
  return [row("there", waits.there, errors), row("back, by rollback", waits.back, errors)];
}

function row(way: string, waits: readonly number[], errors: number): Row {
  const seconds = median(waits) / 1000;
  const note = `at most 1 s asked; ${errors} client errors; worst ${(Math.max(...waits) / 1000).toFixed(2)} s`;
  return {
    what: `longest wait of a client, move ${way}, ${transactionsPerSecond} transactions/s through PgBouncer`,
    ...{ peer: "1 s", peerSeconds: 1, ourSeconds: seconds, ratio: seconds, target: 1, peakMiB: 0, note },
  };
}

/** pgbench ends a client that sees an error, and then fails. */
async function startLoad(binDir: string, url: URL) {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-load-"));
  const script = join(folder, "insert.sql");
  await writeFile(script, "INSERT INTO public.teams (name) VALUES (gen_random_uuid()::text);\n");
  const login = { PGHOST: url.hostname, PGPORT: url.port, PGUSER: application.user, PGPASSWORD: application.password };
  const args = ["-n", "-f", script, "-R", String(transactionsPerSecond), "-c", "4", "-T", "3600", "litellm"];
  const child = spawn(join(binDir, "pgbench"), args, {
    env: { ...process.env, ...login },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk) => (said += chunk));
  const ended = once(child, "close");
  return {
    stop: async () => {
      const died = child.exitCode !== null;
      child.kill("SIGINT");
      await ended;
      await rm(folder, { recursive: true, force: true });
      if (died || /ERROR|FATAL|aborted/.test(said)) console.error(said);
      return died || /ERROR|FATAL|aborted/.test(said) ? 1 : 0;
    },
  };
}
