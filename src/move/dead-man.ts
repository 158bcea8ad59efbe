import { literal } from "../postgres/quote.ts";
import type { Session } from "../postgres/session.ts";
import { endProcesses } from "./end-processes.ts";
import { openingStatements } from "./gate.ts";
import type { MoveContext, Side } from "./step.ts";

/** Without a longest block, the server lifts it this long after the last session of pgkit has gone. */
const silenceSeconds = 10;

/**
 * Makes the server itself open the database again, to `limit` connections, when `maxBlockMs` has passed: also where pgkit
 * was killed or its machine is gone. It is one statement that sleeps and then alters, in a connection that pgkit leaves
 * behind. Without `maxBlockMs` it waits for pgkit's sessions in this database to be gone for that long.
 */
export async function armDeadMan(context: MoveContext, side: Side, limit: number): Promise<void> {
  const { move, clock, signal } = context;
  const left = new Error("the session is left to the server");
  const leaving = context.session(side, async (guard) => {
    const [row] = await guard.query<{ pid: number }>(
      // Otherwise the server would end the statement when it sees that the client has gone.
      `SELECT pg_backend_pid() AS pid, set_config('client_connection_check_interval', '0', false),
         set_config('application_name', $1, false)`,
      [guardName(move.id)],
    );
    const ended = guard.query(`DO ${literal(bodyOf(context, openingStatements(context, side, limit)))}`).then(
      () => undefined,
      // When the connection is left behind; or it could not begin, which shows below.
      (error: unknown) => error,
    );
    await context.session(side, async (session) => {
      while (!(await sleeps(session, row?.pid))) {
        const failed = await Promise.race([ended, clock.delay(3, signal).then(() => "waiting")]);
        if (failed !== "waiting") throw failed;
      }
    });
    // The one way to give up a session whose statement goes on: who uses it for something else would wait for it.
    throw left;
  });
  await leaving.catch((error: unknown) => {
    if (error !== left) throw error;
  });
}

/** Ends it and waits until it is gone: from then on, whatever limit the database has stays. */
export async function disarmDeadMan(session: Session, moveId: string): Promise<void> {
  await endProcesses(
    session,
    `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user
       AND application_name = ${literal(guardName(moveId))}`,
  );
}

function guardName(moveId: string): string {
  return `pgkit deadline ${moveId}`.slice(0, 63);
}

async function sleeps(session: Session, pid: number | undefined): Promise<boolean> {
  const rows = await session.query("SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", [pid]);
  return rows.length > 0;
}

function bodyOf({ move }: MoveContext, open: string): string {
  const { maxBlockMs } = move.options;
  if (maxBlockMs !== undefined) return `BEGIN PERFORM pg_sleep(${maxBlockMs / 1000}); ${open} END`;
  return `DECLARE seen timestamptz := clock_timestamp();
    BEGIN
      WHILE clock_timestamp() < seen + interval '${silenceSeconds} seconds' LOOP
        PERFORM pg_sleep(1);
        PERFORM pg_stat_clear_snapshot();
        IF EXISTS (SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()
            AND usename = current_user AND application_name LIKE 'pgkit%') THEN
          seen := clock_timestamp();
        END IF;
      END LOOP;
      ${open}
    END`;
}
