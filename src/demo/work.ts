import { withSession } from "../postgres/session.ts";
import type { DemoWorld } from "./world.ts";

/** An application that goes on writing, whatever happens beside it. */
export interface Work {
  /** Rows whose commit the server has acknowledged. */
  readonly acknowledged: number;
}

const pauseMs = 20;

/** Runs `use` while an execution of a workflow is written to the database n8n every few milliseconds, each in its own transaction. */
export async function whileWorking<Result>(world: DemoWorld, use: (work: Work) => Promise<Result>): Promise<Result> {
  const stop = new AbortController();
  const work = { acknowledged: 0 };
  const writing = write(world, work, stop.signal);
  // Told at the end; until then `use` goes on.
  writing.catch(() => undefined);
  try {
    return await use(work);
  } finally {
    stop.abort();
    await writing;
  }
}

async function write({ connection, clock, signal }: DemoWorld, work: { acknowledged: number }, stop: AbortSignal) {
  await withSession(connection, { database: "n8n", applicationName: "n8n", signal }, async (session) => {
    while (!stop.aborted) {
      await session.query(
        `INSERT INTO public.execution_entity (finished, mode, status, "startedAt", "workflowId")
         SELECT true, 'live', 'success', clock_timestamp(), id FROM public.workflow_entity ORDER BY id LIMIT 1`,
      );
      work.acknowledged += 1;
      await clock.delay(pauseMs, signal);
    }
  });
}

/** How many of those rows there are. */
export async function workFound({ connection, signal }: DemoWorld): Promise<number> {
  return withSession(connection, { database: "n8n", signal }, async (session) => {
    const sql = "SELECT count(*)::float8 AS rows FROM public.execution_entity WHERE mode = 'live'";
    return (await session.query<{ rows: number }>(sql))[0]?.rows ?? 0;
  });
}
