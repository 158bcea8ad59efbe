import type { Secret } from "../lib/secret.ts";

/** Where an application finds its database, as the application itself spells it. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  /** `undefined` where the place that is switched does not name one. */
  readonly user?: string | undefined;
  readonly password?: Secret | undefined;
}

/** An endpoint that may be journaled and compared: without its password. */
export type EndpointAddress = Omit<Endpoint, "password">;

/**
 * What points an application at its database. Every method can be repeated: done again it changes nothing. What each
 * promises is tested for all of them by one suite, `test/switch/conformance.ts`.
 */
export interface Switcher {
  /** For messages and the journal, such as `PgBouncer at 127.0.0.1:6432, database litellm`; never a credential. */
  readonly where: string;
  readonly kind: "secret" | "pgbouncer" | "haproxy" | "env-file" | "command";
  /** What it points at now. Fails where it cannot be asked; there is no default. */
  current(signal: AbortSignal): Promise<Endpoint>;
  /** Holds the application's statements back until `resume`: it sees a wait and no error. Waits for those under way. */
  pause?(signal: AbortSignal): Promise<void>;
  resume?(signal: AbortSignal): Promise<void>;
  /**
   * Points it from one endpoint to the other, all or nothing, and waits until that holds for whoever connects now. User
   * and password stay as they are where `to` has none. Where it points at `to` already, that is all. Fails with
   * `switch-conflict` where it points at neither: somebody else has changed it.
   */
  point(from: EndpointAddress, to: Endpoint, signal: AbortSignal): Promise<void>;
  /**
   * Waits until whoever was pointed has followed: such as workloads that were restarted. Called once the target is open. Fails
   * with `not-ready` where they do not within their deadline, with `switch-conflict` where it was pointed elsewhere since.
   */
  settle?(signal: AbortSignal): Promise<void>;
  /** Remarks for the plan, such as which workloads will be restarted and who manages the Secret. Changes nothing. */
  plan?(to: EndpointAddress, signal: AbortSignal): Promise<SwitchPlan>;
}

export interface SwitchPlan {
  /** What `point` will do, one sentence each. */
  readonly does: readonly string[];
  /** What must be settled before, each with its remedy: such as a Secret that ArgoCD would put back. */
  readonly refusals: readonly { readonly message: string; readonly hint: string }[];
  readonly warnings: readonly { readonly message: string; readonly hint: string }[];
}

export function isSameAddress(a: EndpointAddress, b: EndpointAddress): boolean {
  return a.host === b.host && a.port === b.port && a.database === b.database;
}
