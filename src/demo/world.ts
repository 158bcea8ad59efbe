import { withDestinations } from "../backup/destinations.ts";
import type { BackupDependencies, BackupDestination, BackupOutcome } from "../backup/logical.ts";
import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Programs } from "../postgres/programs.ts";
import type { AuditActor } from "../repo/audit.ts";
import type { Repository } from "../repo/repository.ts";

/** The instance's name in the demo's repository. */
export const demoInstance = "shared";

export interface DemoWorld {
  /** A new one. */
  repository: Repository;
  /** The superuser's, to an empty server of these programs' major. */
  connection: Connection;
  programs: Programs;
  /** Of the streamer; made where it is missing. */
  streamFolder: string;
  /** Where the scratch server of a recovery may lie. */
  scratch: string;
  actor: AuditActor;
  leaseMs: number;
  pgkitVersion: string;
  clock: Clock;
  /** Tells the story. */
  say: (line: string) => void;
  /** Is told of warnings alone: the story says the rest. */
  report: Report;
  signal: AbortSignal;
}

/** Makes backups in the demo's repository as the commands do: under the lease of the instance. Fails when one failed. */
export async function backUpInto(
  world: DemoWorld,
  backUp: (
    destinations: readonly BackupDestination[],
    dependencies: BackupDependencies,
  ) => Promise<Pick<BackupOutcome, "made" | "failures">>,
): Promise<BackupOutcome["made"]> {
  const { repository, programs, pgkitVersion, clock, report, signal } = world;
  const dependencies = { programsFor: () => Promise.resolve(programs), pgkitVersion, clock, report, signal };
  const opener = { where: repository.where, open: () => Promise.resolve(repository) };
  const { made, failures } = await withDestinations([opener], demoInstance, leaseOf(world), async (places, failed) => {
    const outcome = await backUp(places, dependencies);
    return { made: outcome.made, failures: [...failed, ...outcome.failures] };
  });
  if (failures[0] !== undefined) throw failures[0].error;
  return made;
}

export function leaseOf({ actor, leaseMs, clock, report, signal }: DemoWorld) {
  return { clock, holder: { ...actor.from, command: "pgkit demo" }, ttlMs: leaseMs, report, signal };
}

export function notProven(what: string): PgkitError {
  return new PgkitError("verification-failed", `the demo did not prove what it claims: ${what}`, {
    hint: "this should never happen: please report it",
  });
}
