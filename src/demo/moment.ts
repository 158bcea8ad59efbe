import { isPgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import { withSession } from "../postgres/session.ts";
import { withAudit } from "../repo/audit.ts";
import { type DatabaseAtResult, prepareDatabaseAt } from "../restore/database-at.ts";
import { readRecoveryInventory } from "../restore/recovery-inventory.ts";
import { planRecovery, type RecoveryPlan } from "../restore/recovery-plan.ts";
import { microseconds, momentText } from "../restore/recovery-target.ts";
import { backUpInstance, withArchiving } from "./archiving.ts";
import { type Fingerprint, fingerprint } from "./fingerprint.ts";
import { whileWorking, workFound } from "./work.ts";
import { type DemoWorld, demoInstance, notProven } from "./world.ts";

export interface MomentOutcome {
  /** One second before the disaster, RFC 3339 UTC. */
  time: string;
  before: Fingerprint;
  after: Fingerprint;
}

const database = "litellm";
const spend = 250;

/**
 * One database of the instance goes back to one second before a DELETE, out of a base backup and WAL, while another is
 * written to. Fails with `verification-failed` when it is not as it was, or the other lacks a row that was acknowledged.
 */
export async function tellMoment(world: DemoWorld): Promise<MomentOutcome> {
  const { say } = world;
  say("\n6. From now on every moment:  pgkit pitr enable, pgkit wal stream, pgkit backup base");
  return withArchiving(world, async (archived) => {
    await backUpInstance(archived);
    say("\n7. The applications go on, and then a disaster at a known moment");
    return whileWorking(archived, async (work) => {
      const lost = await loseRows(archived);
      const written = work.acknowledged;
      say(
        `\n8. One database, as it was one second before:  pgkit restore ${database} --to-time ${lost.time} --replace`,
      );
      await restore(archived, lost.time);
      const after = await fingerprint(world.connection, database, world.signal);
      if (after.hash !== lost.before.hash) throw notProven(`${database} is not as it was at ${lost.time}`);
      await othersWentOn(archived, { acknowledged: work.acknowledged, since: work.acknowledged - written });
      return { ...lost, after };
    });
  });
}

/** New rows of the application; then, more than a second later, the statement that nobody meant. */
async function loseRows(world: DemoWorld): Promise<Omit<MomentOutcome, "after">> {
  const { connection, clock, signal, say } = world;
  const open = { database, applicationName: database, signal };
  return withSession(connection, open, async (session) => {
    await session.query(
      `INSERT INTO public."LiteLLM_SpendLogs" (request_id, call_type, api_key, spend, total_tokens, "startTime", "endTime", model)
       SELECT 'chatcmpl-today-' || i, 'acompletion', 'today', 0.01, 100, localtimestamp, localtimestamp, 'gpt-4o' FROM generate_series(1, ${spend}) i`,
    );
    const before = await fingerprint(connection, database, signal);
    say(`   ${database} has ${spend} rows more than its backup; n8n writes all the time`);
    await clock.delay(1200, signal);
    const [disaster] = await session.query<{ at: string }>(
      `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at`,
    );
    const sql = 'DELETE FROM public."LiteLLM_SpendLogs"';
    await session.query(sql);
    const at = disaster?.at ?? "";
    say(`   ${at}  ${database}: ${sql}`);
    return { time: momentText(microseconds(at) - 1_000_000n), before };
  });
}

async function restore(world: DemoWorld, time: string): Promise<DatabaseAtResult> {
  const { repository, connection, programs, actor, pgkitVersion, scratch, clock, report, signal, say } = world;
  const startedMs = clock.monotonicMs();
  const recovery = await planWhenStored(world, time);
  const { plan, run } = await prepareDatabaseAt({
    ...{ repository, recovery, instance: demoInstance, connection, scratch, pgkitVersion, clock, report, signal },
    request: {
      ...{ database, replace: true, tables: [], whole: false, contentCheck: true, updateRoles: false, jobs: 2 },
    },
    programsFor: () => Promise.resolve(programs),
  });
  const details = { backup: recovery.backup.id, target: { type: "time", time }, to: plan.to, keptAs: plan.keptAs };
  const work = { clock, report, signal, actor, command: "restore", subject: `${demoInstance}/${database}`, details };
  const result = await withAudit(repository, work, run);
  if (result.notRestored.length > 0) throw notProven(`${database}: ${result.notRestored.join("; ")}`);
  const seconds = formatDuration(clock.monotonicMs() - startedMs);
  say(`   base backup and WAL recovered on a scratch server to ${result.reached.time}, the last commit before it`);
  say(`   dumped, loaded beside the live one, all ${result.rows} rows compared, put in its place: ${seconds}`);
  say(`   the one with the disaster is kept as ${result.keptAs}`);
  return result;
}

/** A moment can be reached once WAL behind it is stored, which takes the streamer a second. */
async function planWhenStored(world: DemoWorld, time: string): Promise<RecoveryPlan> {
  const { repository, clock, report, signal } = world;
  const target = { type: "time" as const, time: new Date(time), text: time, inclusive: true };
  const deadlineMs = clock.monotonicMs() + 30_000;
  for (;;) {
    const inventory = await readRecoveryInventory(repository, demoInstance, { report, signal });
    try {
      return planRecovery(inventory, { target, timeline: "latest", action: "promote" });
    } catch (error) {
      if (!isPgkitError(error, "target-not-archived") || clock.monotonicMs() > deadlineMs) throw error;
      await clock.delay(200, signal);
    }
  }
}

async function othersWentOn(world: DemoWorld, { acknowledged, since }: { acknowledged: number; since: number }) {
  const found = await workFound(world);
  if (found < acknowledged || since === 0) throw notProven(`n8n has ${found} of ${acknowledged} rows that it wrote`);
  world.say(
    `   n8n never stopped: all ${acknowledged} rows that it wrote are there, ${since} of them since the disaster`,
  );
}
