import { openSession, type Session, withSession } from "../postgres/session.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RestoreDependencies } from "./database.ts";
import { dropDatabase } from "./drop.ts";
import { announce, markScript } from "./leftovers.ts";
import type { RestorePlan } from "./plan.ts";
import { runScript } from "./script.ts";

/** The claim on the database that is being loaded. */
export interface Hold {
  /** Leaves it, for a rename that needs it empty of sessions. From then on another restore could take it for a leftover. */
  release(): Promise<void>;
  /** It stays, whatever comes. */
  keep(): void;
}

export interface Loading {
  plan: RestorePlan;
  backup: Manifest;
  /** The database to be connected to meanwhile. */
  maintenance: string;
}

/**
 * Makes the plan's empty database and runs `use`; drops it afterwards unless it is to be kept. A session of ours is in it
 * all the time: a marked database with nobody in it is what a killed restore has left, which the next one drops.
 */
export async function withLoadingDatabase<Result>(
  { plan, backup, maintenance }: Loading,
  dependencies: RestoreDependencies,
  use: (hold: Hold) => Promise<Result>,
): Promise<Result> {
  const name = plan.loading;
  let held: Session | undefined;
  let kept = false;
  const release = async () => {
    const session = held;
    held = undefined;
    await session?.close();
  };
  try {
    held = await makeDatabase({ plan, backup, maintenance }, dependencies);
    return await use({
      release,
      keep: () => {
        kept = true;
      },
    });
  } finally {
    await release();
    if (!kept) await tryToDrop(name, maintenance, dependencies);
  }
}

/**
 * Makes the database, marked, and gives a session in it. No signal ends psql: the server would go on with CREATE DATABASE
 * after that, and be done when we have looked in vain for something to drop.
 */
async function makeDatabase(
  { plan, backup, maintenance }: Loading,
  dependencies: RestoreDependencies,
): Promise<Session> {
  const { connection, signal } = dependencies;
  const database = plan.loading;
  return withSession(connection, { database: maintenance, signal }, async (session) => {
    await announce(session, database);
    const variables = [`database=${database}`];
    const create = { backup, role: "database", variables, database: maintenance, uninterrupted: true } as const;
    await runScript({ ...create, andThen: markScript(plan.backup) }, dependencies);
    return openSession(connection, { database, signal });
  });
}

/** Without the run's signal, which may be why it is dropped. */
async function tryToDrop(
  name: string,
  maintenance: string,
  { connection, report }: RestoreDependencies,
): Promise<void> {
  try {
    await dropDatabase(connection, { name, maintenance, force: true });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    report({
      type: "warning",
      message: `database ${name}, which was only loaded, could not be dropped: ${why}`,
      hint: "the next restore drops it, or DROP DATABASE by hand",
    });
  }
}
