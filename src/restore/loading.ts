import { PgkitError } from "../lib/errors.ts";
import { openSession, type Session, withSession } from "../postgres/session.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RestoreDependencies } from "./database.ts";
import { dropDatabase } from "./drop.ts";
import { markAsRestoring } from "./leftovers.ts";
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
  const { connection, signal } = dependencies;
  const name = plan.loading;
  await refuseExisting(plan, maintenance, dependencies);
  let held: Session | undefined;
  let [made, kept] = [false, false];
  const release = async () => {
    const session = held;
    held = undefined;
    await session?.close();
  };
  try {
    await runScript({ backup, role: "database", variables: [`database=${name}`], database: maintenance }, dependencies);
    held = await openSession(connection, { database: name, signal });
    made = true;
    await markAsRestoring(held, name, plan.backup);
    return await use({
      release,
      keep: () => {
        kept = true;
      },
    });
  } finally {
    await release();
    // What another restore made at the same moment under this name has a session in it, and so stays.
    if (!kept) await tryToDrop(name, maintenance, made, dependencies);
  }
}

async function refuseExisting(
  { loading }: RestorePlan,
  maintenance: string,
  { connection, signal }: RestoreDependencies,
): Promise<void> {
  const there = await withSession(connection, { database: maintenance, signal }, (session) =>
    session.query("SELECT FROM pg_database WHERE datname = $1", [loading]),
  );
  if (there.length === 0) return;
  throw new PgkitError("refused-overwrite", `database ${loading} exists: another restore loads it`, {
    hint: "wait for that one, or run this again",
  });
}

/** Without the run's signal, which may be why it is dropped. */
async function tryToDrop(
  name: string,
  maintenance: string,
  force: boolean,
  { connection, report }: RestoreDependencies,
): Promise<void> {
  try {
    await dropDatabase(connection, { name, maintenance, force });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    report({
      type: "warning",
      message: `database ${name}, which was only loaded, could not be dropped: ${why}`,
      hint: "the next restore drops it, or DROP DATABASE by hand",
    });
  }
}
