import { PgkitError } from "../lib/errors.ts";
import type { EndpointAddress } from "./switcher.ts";

/** `host:port/database`, for messages. */
export function spellAddress({ host, port, database }: EndpointAddress): string {
  return `${host.includes(":") && !host.includes(",") ? `[${host}]` : host}:${port}/${database}`;
}

/** Somebody else has pointed it at a third place; nothing was overwritten. */
export function switchConflict(
  where: string,
  now: EndpointAddress,
  from: EndpointAddress,
  to: EndpointAddress,
): PgkitError {
  return new PgkitError(
    "switch-conflict",
    `${where} points at ${spellAddress(now)}, neither at ${spellAddress(from)} nor at ${spellAddress(to)}: somebody else has changed it`,
    {
      hint: `nothing was overwritten: put it back to ${spellAddress(from)}, then pgkit move resume, or pgkit move rollback`,
    },
  );
}

/** The code that the system gave this error, such as `ENOENT`; empty where it is another's. */
export function systemCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}
