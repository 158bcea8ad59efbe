import type { Session } from "../../postgres/session.ts";
import { unifyTexts } from "../../restore/content-sql.ts";
import type { MoveContext } from "../step.ts";

/** A session of the moved database on each server, which spell every value alike. */
export interface Both {
  readonly source: Session;
  readonly target: Session;
}

/** Opens both at once, and closes both, whatever happens. */
export async function withBoth<T>(context: MoveContext, use: (both: Both) => Promise<T>): Promise<T> {
  const opened = Promise.withResolvers<Session>();
  const done = Promise.withResolvers<void>();
  const there = context.session("target", async (target) => {
    await unifyTexts(target);
    opened.resolve(target);
    await done.promise;
  });
  there.catch(opened.reject);
  try {
    return await context.session("source", async (source) => {
      await unifyTexts(source);
      return await use({ source, target: await opened.promise });
    });
  } finally {
    done.resolve();
    // Where it could not be opened, that is what has been thrown already.
    await there.catch(() => undefined);
  }
}

/**
 * Works through `tasks` in their order, `jobs` of them at a time: the first worker with the sessions that are there, if any,
 * each other one with sessions of its own. The first failure ends all.
 */
export async function withWorkers<Task>(
  context: MoveContext,
  tasks: readonly Task[],
  work: (both: Both, task: Task) => Promise<void>,
  there?: Both,
): Promise<void> {
  const left = [...tasks];
  const through = async (both: Both) => {
    for (let task = left.shift(); task !== undefined; task = left.shift()) await work(both, task);
  };
  const stop = (error: unknown) => {
    left.length = 0;
    throw error;
  };
  const workers = Array.from({ length: Math.min(Math.max(1, context.move.options.jobs), tasks.length) }, (_, index) =>
    (index === 0 && there !== undefined ? through(there) : withBoth(context, through)).catch(stop),
  );
  const ended = await Promise.allSettled(workers);
  const failed = ended.find((each) => each.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}
