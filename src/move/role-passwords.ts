import { PgkitError } from "../lib/errors.ts";
import type { Secret } from "../lib/secret.ts";
import type { RoleFacts } from "./roles.ts";
import { isPasswordOf } from "./scram.ts";
import type { MoveContext } from "./step.ts";

/** What the switchers say of how applications connect now: their passwords by role; `undefined` where none is named. */
export async function applicationPasswords({
  switchers,
  signal,
}: MoveContext): Promise<Map<string, Secret | undefined>> {
  const passwords = new Map<string, Secret | undefined>();
  for (const switcher of switchers) {
    const { user, password } = await switcher.current(signal);
    if (user !== undefined) passwords.set(user, password ?? passwords.get(user));
  }
  return passwords;
}

export type PasswordVerdict = "same" | "different" | "unknown";

/**
 * Whether a role that both servers have lets the same password in: told by equal verifiers, or by the application's own password.
 */
export function comparePasswords(source: RoleFacts, target: RoleFacts, own: Secret | undefined): PasswordVerdict {
  if (own !== undefined && typeof target.verifier === "string") {
    return isPasswordOf(target.verifier, target.name, own.reveal()) ? "same" : "different";
  }
  if (source.verifier === undefined || target.verifier === undefined) return "unknown";
  if (source.verifier === target.verifier) return "same";
  // Each server salts a password anew, so that the same one can have two verifiers.
  return source.verifier === null || target.verifier === null ? "different" : "unknown";
}

/** The roles by which applications come: those that the switchers name, else the database's owner. */
export function applicationRoles(passwords: ReadonlyMap<string, unknown>, owner: string): string[] {
  return passwords.size > 0 ? [...passwords.keys()] : [owner];
}

export function refusedPassword(context: MoveContext, role: string, why: string): PgkitError {
  return new PgkitError("move-refused", `the application's role ${role} ${why}`, {
    hint: `let both servers agree, by ALTER ROLE ... PASSWORD on ${context.target.instance} or with pgkit's user a superuser on ${context.source.instance}: the application would be refused after the switch`,
  });
}
