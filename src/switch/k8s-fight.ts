import type { ManagedFields } from "../kube/kube.ts";
import { fieldManager } from "../kube/kube.ts";
import { ownerOf } from "../kube/owner.ts";
import type { Secret } from "../kube/workloads.ts";
import { PgkitError } from "../lib/errors.ts";
import type { SecretPlace } from "./k8s-secret.ts";
import { spellAddress } from "./switch-errors.ts";
import type { EndpointAddress } from "./switcher.ts";

/** The error of a Secret that somebody else has pointed back, or elsewhere, after pgkit had pointed it. */
export function putBack({ where, config }: SecretPlace, secret: Secret, at: EndpointAddress): PgkitError {
  const who = ownerOf(secret)?.who ?? managerOf(secret.metadata.managedFields ?? [], Object.values(config.keys));
  const message = `${where} was pointed, and ${who} has put it back to ${spellAddress(at)}: two controllers fight over it`;
  return new PgkitError("switch-conflict", message, {
    hint: `change it where ${who} reads it, or pause that, and let the move be resumed or rolled back`,
  });
}

/** Whoever has written one of these keys last manages it since. */
function managerOf(fields: readonly ManagedFields[], keys: readonly (string | undefined)[]): string {
  const manages = ({ fieldsV1 }: ManagedFields) =>
    keys.some((key) => key !== undefined && Object.hasOwn(fieldsV1?.["f:data"] ?? {}, `f:${key}`));
  const found = fields.find((each) => each.manager !== fieldManager && manages(each));
  return found?.manager === undefined ? "somebody" : `the field manager ${found.manager}`;
}
