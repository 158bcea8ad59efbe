import type { Session } from "../../postgres/session.ts";
import { storeProof } from "../proof-store.ts";
import type { MoveContext, Step } from "../step.ts";
import { compareStep } from "./compare.ts";

/** Who was seen where, after the switch. */
export interface Watched {
  /** The application's roles that are in the database on the target. */
  readonly arrived: readonly string[];
  /** Sessions that are still in it on the source, as `role (application) from address`. */
  readonly stragglers: readonly string[];
  readonly waitedMs: number;
}

/** How long the application is waited for; it may well write only once an hour. */
const waitMs = 60_000;
const lookEveryMs = 250;

/**
 * Whether the application has come to the target and left the source: a warning where not. Fails where what was restarted for it did
 * not become ready with `not-ready`: the move then goes back with all that was written.
 */
export const watchStep: Step<undefined, Watched> = {
  name: "watch",
  does: "waits until the application is seen on the target, and nobody is left on the source",
  check: async (context) => (context.resultOf(watchStep) === undefined ? "todo" : "done"),
  run: async (context) => {
    // Only now can what was restarted become ready: the target was closed until the step before.
    await Promise.all(context.switchers.map((switcher) => switcher.settle?.(context.signal)));
    return await watchFor(context, waitMs);
  },
  verify: async () => undefined,
  undo: async () => undefined,
};

/** Looks until both hold, at most `withinMs`. Stores the proof first, for which there was no time while writes were blocked. */
export async function watchFor(context: MoveContext, withinMs: number): Promise<Watched> {
  const proof = context.resultOf(compareStep);
  if (proof !== undefined) await storeProof(context, proof);
  const startedMs = context.clock.monotonicMs();
  for (;;) {
    const seen = await look(context);
    const waitedMs = Math.round(context.clock.monotonicMs() - startedMs);
    if ((seen.arrived.length > 0 && seen.stragglers.length === 0) || waitedMs >= withinMs) {
      warn(context, seen, waitedMs);
      return { ...seen, waitedMs };
    }
    await context.clock.delay(lookEveryMs, context.signal);
  }
}

async function look(context: MoveContext): Promise<Omit<Watched, "waitedMs">> {
  const [there, here] = await Promise.all([context.session("target", clients), context.session("source", clients)]);
  return {
    arrived: [...new Set(there.filter(({ superuser }) => !superuser).map(({ user }) => user))],
    stragglers: here.map(({ user, application, address }) => {
      const program = application === "" ? "" : ` (${application})`;
      return `${user}${program} from ${address ?? "the server itself"}`;
    }),
  };
}

interface Client {
  user: string;
  application: string;
  address: string | null;
  superuser: boolean;
}

/** Sessions in the database but those of pgkit. */
async function clients(session: Session): Promise<Client[]> {
  return session.query<Client>(
    `SELECT DISTINCT a.usename AS user, a.application_name AS application, host(a.client_addr) AS address, r.rolsuper AS superuser
     FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
     WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.application_name !~ '^pgkit'
     ORDER BY 1, 2, 3`,
  );
}

function warn(
  { report, move, source, target }: MoveContext,
  { arrived, stragglers }: Omit<Watched, "waitedMs">,
  waitedMs: number,
) {
  const within = `within ${Math.round(waitedMs / 1000)} s`;
  if (arrived.length === 0) {
    report({
      type: "warning",
      message: `nobody has connected to ${move.database} on ${target.instance} ${within}`,
      hint: "does the application run, and does it read its new address? the old one refuses it",
    });
  }
  if (stragglers.length > 0) {
    report({
      type: "warning",
      message: `still in ${move.database} on ${source.instance}, which takes no writes of the application: ${stragglers.join("; ")}`,
      hint: `point them to ${target.endpoint.host}:${target.endpoint.port}, and end their sessions on the source`,
    });
  }
}
