import type { ToolTarget } from "../postgres/tools.ts";

/**
 * What a restore's programs run against. No timeout and no read-only default that is set for the role or the database
 * may stop them half-way: some of them, such as psql and vacuumdb, do not see to that themselves. The server may be older
 * than the programs.
 */
export function restoreTarget<Target extends ToolTarget>(target: Target, serverMajor = target.programs.major): Target {
  const settings = {
    default_transaction_read_only: "off",
    statement_timeout: "0",
    lock_timeout: "0",
    idle_in_transaction_session_timeout: "0",
    idle_session_timeout: "0",
    // Servers before 17 refuse the name.
    ...(serverMajor >= 17 ? { transaction_timeout: "0" } : {}),
    ...target.settings,
  };
  return { ...target, settings };
}
