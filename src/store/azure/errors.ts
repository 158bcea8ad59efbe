import { RestError } from "@azure/storage-blob";
import { type ErrorCode, PgkitError } from "../../lib/errors.ts";
import { networkError } from "../network-error.ts";

/** What the service answered, kept as the cause of our error; holds no header and no URL, as those carry credentials. */
export interface AzureAnswer {
  /** Such as `BlobNotFound`; empty where there is none. */
  code: string;
  /** HTTP status; undefined when no answer came. */
  status: number | undefined;
}

export interface AzureAsked {
  /** Such as `storing a/b`. */
  what: string;
  container: string;
  /** The account's endpoint, without a signature. */
  at: string;
}

/** Any error of the SDK or of the network as ours, naming container and endpoint. */
export function azureError(error: unknown, asked: AzureAsked): PgkitError {
  if (error instanceof PgkitError) return error;
  const answer = answerIn(error);
  const said = firstLine(error);
  const cause = Object.assign(new Error(`${answer.code} ${said}`.trim()), { answer });
  const where = `${asked.what} failed in container ${asked.container} at ${asked.at}`;
  if (answer.status === undefined) {
    const network = networkError(error, where, cause);
    if (network !== undefined) return network;
  }
  const [code, hint] = meaning(answer, error, asked);
  const text = [answer.code, said].filter((part) => part !== "").join(": ") || `status ${answer.status ?? "unknown"}`;
  return new PgkitError(code, `${where}: ${text}`, { ...(hint === undefined ? {} : { hint }), cause });
}

/** The answer that an error of this store rests on; undefined for errors that no service gave. */
export function answerOf(error: unknown): AzureAnswer | undefined {
  const cause = error instanceof PgkitError ? error.cause : undefined;
  return cause instanceof Error && "answer" in cause ? (cause.answer as AzureAnswer) : undefined;
}

function answerIn(error: unknown): AzureAnswer {
  if (!(error instanceof RestError)) return { code: "", status: undefined };
  const details = error.details as { errorCode?: string } | undefined;
  const header = error.response?.headers.get("x-ms-error-code");
  return { code: header ?? details?.errorCode ?? error.code ?? "", status: error.statusCode };
}

/** The rest are ids and a time; some SDK messages go on with the whole request. */
function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return (message.split("\n")[0] ?? "").replaceAll(/([?&]sig=)[^&\s]*/g, "$1...");
}

function meaning({ code, status }: AzureAnswer, error: unknown, asked: AzureAsked): [ErrorCode, string?] {
  switch (code) {
    case "BlobNotFound":
      return ["object-missing"];
    case "ContainerNotFound":
    case "ContainerBeingDeleted":
      return ["repository-missing", `create the container ${asked.container}, or correct its name`];
    case "AuthenticationFailed":
      return [
        "store-denied",
        "is the key the one of this account, is the signature still valid, and is the clock right?",
      ];
    case "AuthorizationPermissionMismatch":
    case "InsufficientAccountPermissions":
      return ["store-denied", `may this identity read, write, list and delete in ${asked.container}?`];
    case "AuthorizationFailure":
      return ["store-denied", `is the key right, and may it read, write, list and delete in ${asked.container}?`];
    case "ConditionNotMet":
    case "BlobAlreadyExists":
    case "TargetConditionNotMet":
      return ["condition-failed"];
    case "BlobImmutableDueToPolicy":
      return ["store-denied", "it is under retention"];
    case "AccountBeingCreated":
    case "ServerBusy":
    case "OperationTimedOut":
      return ["store-failed", "the service is busy; try again"];
    case "FeatureNotYetSupportedForHierarchicalNamespaceAccounts":
    case "ApiNotImplemented":
      return ["store-unsupported"];
    default:
      return byStatus(status, error);
  }
}

function byStatus(status: number | undefined, error: unknown): [ErrorCode, string?] {
  if (error instanceof Error && /Credential|Authentication/.test(error.name)) {
    return ["store-denied", "no usable credentials were found: give an account key, a signature or an identity"];
  }
  if (status === 401 || status === 403) return ["store-denied", "are the credentials right for this account?"];
  if (status === 412) return ["condition-failed"];
  if (status === 404) return ["store-failed", "is there a blob service at this endpoint?"];
  if (status === 501) return ["store-unsupported"];
  return ["store-failed"];
}
