import { literal } from "../postgres/quote.ts";
import type { Session } from "../postgres/session.ts";

/**
 * Ends the server processes that `pids` gives (a query with one column, `pid`), and waits until it gives none. The timeout of
 * pg_terminate_backend would do the same, but it looks only every 100 ms, which a block has not. Fails with
 * `postgres-failed` after ten seconds.
 */
export async function endProcesses(session: Session, pids: string): Promise<void> {
  const body = `DECLARE late timestamptz := clock_timestamp() + interval '10 s';
    BEGIN
      LOOP
        PERFORM pg_terminate_backend(pid) FROM (${pids}) AS processes (pid);
        EXIT WHEN NOT FOUND;
        IF clock_timestamp() > late THEN RAISE EXCEPTION 'a process of the server does not end: %', (${pids} LIMIT 1); END IF;
        PERFORM pg_sleep(0.002);
        PERFORM pg_stat_clear_snapshot();
      END LOOP;
    END`;
  await session.query(`DO ${literal(body)}`);
}
