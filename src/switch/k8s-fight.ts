import type { ManagedFields } from "../kube/kube.ts";
import { fieldManager } from "../kube/kube.ts";
import { ownerOf } from "../kube/owner.ts";
import type { Secret } from "../kube/workloads.ts";
import { PgkitError } from "../lib/errors.ts";
import type { SecretPlace } from "./k8s-secret.ts";
import { spellAddress } from "./switch-errors.ts";
import type { EndpointAddress } from "./switcher.ts";

/** The error of a Secret that somebody else has pointed back, or elsewhere, after pgkit had pointed it. */
export function putBack({ where }: SecretPlace, secret: Secret, at: EndpointAddress): PgkitError {
  const who = ownerOf(secret)?.who ?? lastManager(secret.metadata.managedFields ?? []);
  const message = `${where} was pointed, and ${who} has put it back to ${spellAddress(at)}: two controllers fight over it`;
  return new PgkitError("switch-conflict", message, {
    hint: `change it where ${who} reads it, or pause that, and let the move be resumed or rolled back`,
  });
}

function lastManager(fields: readonly ManagedFields[]): string {
  const others = fields.filter(({ manager }) => manager !== fieldManager);
  const [last] = others.toSorted((a, b) => (b.time ?? "").localeCompare(a.time ?? ""));
  return last?.manager === undefined ? "somebody" : `the field manager ${last.manager}`;
}
