import { type ErrorCode, PgkitError } from "../../lib/errors.ts";
import { networkError } from "../network-error.ts";

/** What the server answered, kept as the cause of our error; holds no header, as those carry credentials. */
export interface S3Answer {
  name: string;
  /** HTTP status; undefined when no answer came. */
  status: number | undefined;
  /** How often the request was sent; above 1 an earlier one may have done its work. */
  attempts: number;
}

export interface Asked {
  /** Such as `storing a/b`. */
  what: string;
  bucket: string;
  /** The endpoint, or Amazon's region. */
  at: string;
}

/** Any error of the SDK or of the network as ours, naming bucket and endpoint. */
export function s3Error(error: unknown, asked: Asked): PgkitError {
  if (error instanceof PgkitError) return error;
  const answer = answerIn(error);
  const said = error instanceof Error ? error.message : String(error);
  const cause = Object.assign(new Error(`${answer.name}: ${said}`), { answer });
  const where = `${asked.what} failed in bucket ${asked.bucket} at ${asked.at}`;
  if (answer.status === undefined) {
    const network = networkError(error, where, cause);
    if (network !== undefined) return network;
  }
  if (said === "Region is missing") {
    return new PgkitError("config", `${where}: no region is configured`, { hint: "set storage.region", cause });
  }
  const [code, hint] = meaning(answer, asked);
  const text = said === "" || said === "UnknownError" ? `status ${answer.status ?? "unknown"}` : said;
  const named = text.includes(answer.name) ? text : `${answer.name}: ${text}`;
  return new PgkitError(code, `${where}: ${named}`, { ...(hint === undefined ? {} : { hint }), cause });
}

/** The answer that an error of this store rests on; undefined for errors that no server gave. */
export function answerOf(error: unknown): S3Answer | undefined {
  const cause = error instanceof PgkitError ? error.cause : undefined;
  return cause instanceof Error && "answer" in cause ? (cause.answer as S3Answer) : undefined;
}

function answerIn(error: unknown): S3Answer {
  const name = error instanceof Error ? error.name : "unknown";
  const metadata = error instanceof Error && "$metadata" in error ? error.$metadata : undefined;
  const { httpStatusCode, attempts } = (metadata ?? {}) as { httpStatusCode?: number; attempts?: number };
  return { name, status: httpStatusCode, attempts: attempts ?? 1 };
}

function meaning({ name, status }: S3Answer, { bucket, at }: Asked): [ErrorCode, string?] {
  return byName(name, bucket, at) ?? byStatus(status);
}

function byName(name: string, bucket: string, at: string): [ErrorCode, string?] | undefined {
  const meanings: Record<string, [ErrorCode, string?]> = {
    NoSuchKey: ["object-missing"],
    NoSuchBucket: ["repository-missing", `create the bucket ${bucket}, or correct its name`],
    InvalidBucketName: ["config", "a bucket's name has 3 to 63 small letters, digits, dots and hyphens"],
    InvalidAccessKeyId: ["store-denied", `does the access key belong to ${at}?`],
    SignatureDoesNotMatch: ["store-denied", "is the secret access key the one of this access key?"],
    ExpiredToken: expired,
    ExpiredTokenException: expired,
    TokenRefreshRequired: expired,
    InvalidToken: ["store-denied", "the session token is not valid: get new credentials"],
    CredentialsProviderError: noCredentials,
    TokenProviderError: noCredentials,
    AccessDenied: ["store-denied", `may this user read, write, list and delete in ${bucket}?`],
    RequestTimeTooSkewed: skewed,
    RequestExpired: skewed,
    PermanentRedirect: otherRegion,
    AuthorizationHeaderMalformed: otherRegion,
    IllegalLocationConstraintException: otherRegion,
    PreconditionFailed: ["condition-failed"],
    ConditionalRequestConflict: ["condition-failed"],
    QuotaExceeded: full,
    QuotaExceededException: full,
    XMinioStorageFull: full,
    InsufficientStorage: full,
    EntityTooLarge: ["store-unsupported", "set storage.partBytes to a smaller number"],
    InvalidObjectState: ["store-failed", "the object is in an archive class: bring it back first"],
    NotImplemented: ["store-unsupported"],
  };
  return Object.hasOwn(meanings, name) ? meanings[name] : undefined;
}

const expired: [ErrorCode, string] = ["store-denied", "the credentials have expired: get new ones"];
const noCredentials: [ErrorCode, string] = [
  "store-denied",
  "no usable credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
];
const skewed: [ErrorCode, string] = [
  "store-unreachable",
  "the clocks of this machine and of the server differ by too much: set them",
];
const otherRegion: [ErrorCode, string] = [
  "store-unreachable",
  "the bucket is in another region: set storage.region to it",
];
const full: [ErrorCode, string] = ["store-full", "raise the quota, or prune old backups"];

function byStatus(status: number | undefined): [ErrorCode, string?] {
  if (status === 401 || status === 403) return ["store-denied", "are the credentials right for this bucket?"];
  if (status === 301 || status === 307 || status === 308) {
    return ["store-unreachable", "the server sends elsewhere: are endpoint and region right?"];
  }
  if (status === 412) return ["condition-failed"];
  if (status === 507) return ["store-full", "free space there, or prune old backups"];
  if (status === 404) return ["store-failed", "is there an S3 server at this endpoint, and is the path style right?"];
  if (status === 501) return ["store-unsupported"];
  return ["store-failed"];
}
