import type { ServerAnswer } from "../incluster/facts.ts";
import type { RestoreWorld } from "../incluster/restore.ts";
import { isPgkitError } from "../lib/errors.ts";
import type { Repository } from "../repo/repository.ts";
import { auditActor } from "./actor.ts";
import type { CommandContext } from "./command.ts";
import type { InstanceConfig } from "./config.ts";
import { eventReader } from "./events.ts";

/** Longer than a server takes that has much to write before it ends. */
const podMs = 900_000;
const startMs = 300_000;

/** What the steps of a restore in the cluster work with. */
export async function volumeWorld(
  context: CommandContext,
  instance: string,
  repository: Repository,
): Promise<RestoreWorld> {
  const { clock, report, signal } = context;
  const { who, from } = auditActor(context);
  return {
    ...{ repository, clock, report, signal },
    kube: await context.kube(),
    actor: `${who} on ${from.host}`,
    runner: { who, ...from },
    ask: (limit) => askServer(context, context.instance(instance), limit),
    newReader: () => eventReader(report),
    patience: { podMs, startMs },
  };
}

/** `undefined` where it cannot be asked from here, as from outside of the cluster; why is said where it is not that. */
async function askServer(
  context: CommandContext,
  instance: InstanceConfig,
  signal: AbortSignal,
): Promise<ServerAnswer | undefined> {
  const { withSession } = await import("../postgres/session.ts");
  const { serverFacts, listDatabases } = await import("../postgres/server-facts.ts");
  try {
    return await withSession(await context.connection(instance), { signal }, async (session) => {
      const { systemId, inRecovery } = await serverFacts(session);
      const [row] = await session.query<{ timeline: number }>(
        "SELECT timeline_id AS timeline FROM pg_control_checkpoint()",
      );
      const databases = (await listDatabases(session)).map(({ name }) => name);
      return { systemId, inRecovery, timeline: row?.timeline ?? 0, databases };
    });
  } catch (error) {
    if (isPgkitError(error, "postgres-unreachable")) return undefined;
    if (!isPgkitError(error, "postgres-denied", "config", "kube-denied")) throw error;
    const hint = "is the password that of the moment which was restored?";
    context.report({ type: "warning", message: `${instance.name} cannot be asked from here: ${error.message}`, hint });
    return undefined;
  }
}
