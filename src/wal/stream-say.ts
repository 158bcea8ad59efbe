import { isPgkitError } from "../lib/errors.ts";
import type { Streamer } from "./stream-context.ts";

/** Says a trouble once, and again when it is another one. */
export function sayTrouble({ troubles, request }: Streamer, where: string, error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  const before = troubles.get(where);
  troubles.set(where, { message, since: before?.since ?? request.clock.now() });
  // A server that stops and starts gives a new reason every second.
  if (before !== undefined && (before.message === message || sameKind(before.message, message))) return;
  const hint = isPgkitError(error) ? error.hint : undefined;
  request.report({
    type: "warning",
    message: `${where}: ${message}; trying again until it works`,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Says that the trouble is over, if there was one. */
export function sayFine({ troubles, request }: Streamer, where: string): void {
  const before = troubles.get(where);
  if (before === undefined) return;
  troubles.delete(where);
  const seconds = Math.round((request.clock.now().getTime() - before.since.getTime()) / 1000);
  request.report({ type: "note", message: `${where}: works again after ${seconds} s` });
}

/** The beginning names what does not work, the end the words of the day. */
function sameKind(a: string, b: string): boolean {
  return a.slice(0, 40) === b.slice(0, 40);
}
