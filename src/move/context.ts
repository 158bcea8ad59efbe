import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Programs } from "../postgres/programs.ts";
import type { Repository } from "../repo/repository.ts";
import type { Switcher } from "../switch/switcher.ts";
import type { Journal } from "./journal.ts";
import type { SessionPool } from "./sessions.ts";
import type { MoveContext, MoveServer, Step } from "./step.ts";

/** What a run of a move has, besides its journal. */
export interface MoveWorld {
  readonly source: MoveServer;
  readonly target: MoveServer;
  readonly switchers: readonly Switcher[];
  readonly repository: Repository;
  /** For the manifests of backups. */
  readonly pgkitVersion: string;
  readonly programsFor: (major: number) => Promise<Programs>;
  readonly clock: Clock;
  readonly report: Report;
}

/** The context of a move's steps, for as long as this signal lasts. */
export function moveContext(
  world: MoveWorld,
  journal: Pick<Journal, "facts" | "steps">,
  sessions: SessionPool,
  signal: AbortSignal,
): MoveContext {
  const { facts } = journal;
  const entryOf = (step: { readonly name: string }) => journal.steps.get(step.name);
  return {
    ...world,
    move: facts,
    signal,
    session: (side, use, database = facts.database) => sessions.use(side, database, signal, use),
    programs: (side = "target") => world.programsFor(facts[side].major),
    // The journal holds what the step of this name has given, which is of the step's own type.
    planOf: <P>(step: Step<P, never>) => entryOf(step)?.plan as P | undefined,
    resultOf: <R>(step: Step<never, R>) => entryOf(step)?.result as R | undefined,
  };
}
