import { type ErrorCode, isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Resource } from "./resource.ts";

/** One call of the API: what its errors are told of. */
export interface Ask {
  readonly verb: "get" | "list" | "watch" | "create" | "patch" | "delete";
  /** `undefined` for the API's own lists of what it has. */
  readonly resource?: Resource;
  readonly subresource?: string | undefined;
  readonly namespace?: string | undefined;
  readonly name?: string | undefined;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly contentType?: string;
  readonly body?: object;
}

/** What the API says where it fails: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/ */
export interface Status {
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  readonly details: {
    readonly name?: string;
    readonly causes?: readonly { readonly field?: string; readonly message?: string }[];
    readonly retryAfterSeconds?: number;
  };
}

/** The Status in an answer; `undefined` where the answer is none: then something else than the API has spoken. */
export function statusOf(body: string): Status | undefined {
  const answer = jsonOf(body);
  if (typeof answer !== "object" || answer === null || !("kind" in answer) || answer.kind !== "Status")
    return undefined;
  const { code = 0, reason = "", message = "", details } = answer as Partial<Status>;
  return { code, reason, message, details: details ?? {} };
}

/** The cause of an error that the API answered by. */
export interface Refusal {
  readonly code: number;
  readonly reason: string;
  /** The object of which the API speaks; empty where it means the path as a whole. */
  readonly name: string;
  readonly retryAfterMs: number | undefined;
}

/** By what the API answered; `undefined` where it did not. */
export function refusalOf(error: unknown): Refusal | undefined {
  if (!isPgkitError(error)) return undefined;
  const { cause } = error;
  return typeof cause === "object" && cause !== null && "retryAfterMs" in cause ? (cause as Refusal) : undefined;
}

/** The error of an answer that is none of 2xx; its cause is a `Refusal`. */
export function apiError(ask: Ask, code: number, body: string, retryAfterMs?: number): PgkitError {
  const status = statusOf(body);
  const said = status?.message === undefined || status.message === "" ? `HTTP ${code}` : status.message;
  const seconds = status?.details.retryAfterSeconds;
  const cause: Refusal = {
    code,
    reason: status?.reason ?? "",
    name: status?.details.name ?? "",
    retryAfterMs: retryAfterMs ?? (seconds === undefined ? undefined : seconds * 1000),
  };
  const { code: kind, message, hint } = failureOf(ask, code, status, said);
  return new PgkitError(kind, message, { hint, cause });
}

interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
}

function failureOf(ask: Ask, code: number, status: Status | undefined, said: string): Failure {
  const failed = (kind: ErrorCode, hint: string) => ({ code: kind, message: `cannot ${what(ask)}: ${said}`, hint });
  if (code === 401) return unauthorized(ask, said);
  if (code === 403) return forbidden(ask, said);
  if (code === 404 && status !== undefined)
    return failed("kube-missing", "is its name spelled right, and its namespace?");
  if (code === 409) return conflict(ask, status, said);
  if (code === 410) return failed("kube-failed", "the API no longer knows that moment: list again");
  if (code === 422) return failed("kube-failed", "the API does not take this change: the message names the field");
  if (code === 429) return failed("kube-failed", "the API is overloaded: try again later");
  if (status === undefined) return failed("kube-failed", "is it the Kubernetes API that answers at this address?");
  return failed("kube-failed", "what does the API server's log say?");
}

/** `patch deployments.apps api in namespace litellm`. */
export function what({ verb, resource, subresource, namespace, name, path }: Ask): string {
  if (resource === undefined) return `${verb} ${path}`;
  const { group, plural } = resource;
  const full = `${plural}${group === "" ? "" : `.${group}`}${subresource === undefined ? "" : `/${subresource}`}`;
  const where =
    namespace === undefined ? (resource.namespaced ? " in all namespaces" : "") : ` in namespace ${namespace}`;
  return `${verb} ${full}${name === undefined ? "" : ` ${name}`}${where}`;
}

/** The line of a Role, or ClusterRole, that would allow the call: names as narrow as the API lets them be. */
export function missingRule({ verb, resource, subresource, name }: Ask): string {
  const plural = `${resource?.plural}${subresource === undefined ? "" : `/${subresource}`}`;
  const group = resource?.group === "" ? '""' : resource?.group;
  // Nothing is there yet whose name could be compared when it is made.
  const names = name === undefined || verb === "create" ? "" : `, resourceNames: [${name}]`;
  return `- { apiGroups: [${group}], resources: [${plural}], verbs: [${verb}]${names} }`;
}

function unauthorized(ask: Ask, said: string): Failure {
  return {
    code: "kube-denied",
    message: `cannot ${what(ask)}: the token or certificate is not accepted: ${said}`,
    hint: "has it expired? Log in again, or let the ServiceAccount's token be mounted",
  };
}

/** Besides RBAC, quotas, policies and ending namespaces answer by 403: no rule helps there. */
function forbidden(ask: Ask, said: string): Failure {
  if (ask.resource !== undefined && /\bcannot \w+ (resource|path)\b/.test(said)) {
    const role = ask.namespace === undefined ? "a ClusterRole" : `a Role in namespace ${ask.namespace}`;
    return {
      code: "kube-denied",
      message: `may not ${what(ask)}: ${said}`,
      hint: `add to ${role} that is bound to this account: ${missingRule(ask)}`,
    };
  }
  return {
    code: "kube-denied",
    message: `cannot ${what(ask)}: ${said}`,
    hint: "this is no matter of roles: a quota, an admission policy or an ending namespace refuses it",
  };
}

function conflict(ask: Ask, status: Status | undefined, said: string): Failure {
  const code = "kube-conflict";
  const causes = status?.details.causes ?? [];
  if (status?.reason === "AlreadyExists") {
    const message = `cannot ${what(ask)}: one of this name is there already`;
    return { code, message, hint: "delete it first, or choose another name" };
  }
  if (causes.length > 0) {
    const fields = causes.map(({ field, message }) => `${field}: ${message}`).join("; ");
    const message = `cannot ${what(ask)}: others manage some of its fields: ${fields}`;
    return { code, message, hint: "change them where their manager has them" };
  }
  const message = `cannot ${what(ask)}: it was changed meanwhile: ${said}`;
  return { code, message, hint: "read it again, and decide again" };
}

function jsonOf(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}
