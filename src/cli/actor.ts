import { hostname, userInfo } from "node:os";
import type { AuditActor } from "../repo/audit.ts";
import type { LeaseOptions } from "../repo/lease.ts";
import type { CommandContext } from "./command.ts";

/**
 * Who runs this: the one whom PGKIT_ACTOR or `sudo` names, and as which user of the system, in a container often only a
 * number.
 */
export function auditActor({ env }: Pick<CommandContext, "env">): AuditActor {
  const behind = env["PGKIT_ACTOR"] || env["SUDO_USER"];
  const user = systemUser();
  const who = behind === undefined || behind === user ? user : `${behind} as ${user}`;
  return { who, from: { host: hostname(), pid: process.pid } };
}

/** What a lease needs to know of this run; `command` is shown to whoever finds the lease taken. */
export function leaseOptions(context: CommandContext, command: string): Omit<LeaseOptions, "withoutConditions"> {
  const { clock, config, report, signal } = context;
  const { ttlMs, waitMs } = config.lease;
  return { clock, report, signal, holder: { ...auditActor(context).from, command }, ttlMs, waitMs };
}

function systemUser(): string {
  try {
    return userInfo().username;
  } catch (error) {
    // Containers run as users that their system does not know; Node says so by a system error of the lookup.
    if (!(error instanceof Error && "syscall" in error)) throw error;
    return `user ${process.getuid?.() ?? "unknown"}`;
  }
}
