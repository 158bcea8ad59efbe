import type { Caller } from "./call.ts";
import type { Ask } from "./errors.ts";
import type { Resource } from "./resource.ts";

/** What an account may be allowed to do in a namespace. */
export interface Right {
  readonly verb: string;
  /** `apps`; empty for the core. */
  readonly group: string;
  /** `statefulsets`. */
  readonly resource: string;
  /** `scale`. */
  readonly subresource?: string | undefined;
  readonly namespace: string;
}

const reviews: Resource = {
  apiVersion: "authorization.k8s.io/v1",
  kind: "SelfSubjectAccessReview",
  group: "authorization.k8s.io",
  plural: "selfsubjectaccessreviews",
  namespaced: false,
};

/** Whether the API would let this account do it: https://kubernetes.io/docs/reference/access-authn-authz/authorization/ */
export async function isAllowed(caller: Caller, right: Right, signal: AbortSignal): Promise<boolean> {
  const { apiVersion, kind, plural } = reviews;
  // Its metadata must be empty: nothing is made.
  const body = { apiVersion, kind, spec: { resourceAttributes: right } };
  const ask: Ask = { verb: "create", resource: reviews, path: `/apis/${apiVersion}/${plural}`, body };
  const answer = (await caller.json(ask, signal)) as { readonly status?: { readonly allowed?: boolean } };
  return answer.status?.allowed === true;
}

/** The line of a Role that gives these verbs of one resource. */
export function ruleOf({ group, resource, subresource }: Right, verbs: readonly string[]): string {
  const plural = subresource === undefined ? resource : `${resource}/${subresource}`;
  return `- { apiGroups: [${group === "" ? '""' : group}], resources: [${plural}], verbs: [${verbs.join(", ")}] }`;
}
