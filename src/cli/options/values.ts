import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { isPgkitError } from "../../lib/errors.ts";
import { parseBytes, parseDuration } from "../../lib/parse.ts";
import { isTimeZone } from "../../lib/parse-time.ts";
import { parseConnection } from "../../postgres/connection.ts";
import { withoutPassword } from "../postgres-url.ts";

/** What a flag, a variable or a key of the file may hold, and how its text becomes a value. */
export interface ValueType<T> {
  /** Completes "must be". */
  readonly allowed: string;
  /** The only words there are, for completion. */
  readonly choices?: readonly string[];
  /** `switch`: a flag without a value. `list`: a list in the file, commas or repeated flags elsewhere. */
  readonly shape: "one" | "list" | "switch";
  /** Takes one text, or those of the list. Relative paths are relative to `folder`. Fails with no error, only `wrong`. */
  parse(texts: readonly string[], folder: string): Parsed<T> | Promise<Parsed<T>>;
}

/** `wrong` says more than `allowed` where there is more to say; it never holds a secret. */
export type Parsed<T> = { readonly value: T } | { readonly wrong: string | undefined };

const notAllowed = { wrong: undefined } as const;

function one<T>(allowed: string, parse: (text: string, folder: string) => T | undefined): ValueType<T> {
  return {
    allowed,
    shape: "one",
    parse: ([text = ""], folder) => {
      const value = parse(text, folder);
      return value === undefined ? notAllowed : { value };
    },
  };
}

export function listOf<T>(item: ValueType<T>): ValueType<readonly T[]> {
  return {
    allowed: `a list, each ${item.allowed}`,
    ...(item.choices === undefined ? {} : { choices: item.choices }),
    shape: "list",
    async parse(texts, folder) {
      const parsed = await Promise.all(texts.map((text) => item.parse([text], folder)));
      const wrong = parsed.find((each) => "wrong" in each);
      return wrong ?? { value: parsed.flatMap((each) => ("value" in each ? [each.value] : [])) };
    },
  };
}

/** An address without user or database; the port is PostgreSQL's own where left out. */
export const hostAndPort: ValueType<{ readonly host: string; readonly port: number }> = one("host:port", (text) => {
  const [, bracketed, plain, port = "5432"] =
    /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/@[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  return host === undefined || Number(port) < 1 || Number(port) > 65_535 ? undefined : { host, port: Number(port) };
});

export const yesOrNo: ValueType<boolean> = {
  ...one("true or false", (text) => truths.get(text.toLowerCase())),
  shape: "switch",
};

const truths = new Map([
  ["true", true],
  ["yes", true],
  ["1", true],
  ["false", false],
  ["no", false],
  ["0", false],
]);

export const text = one("a text that is not empty", (given) => (given.trim() === "" ? undefined : given));

/** A name that stands in keys of the repository and in metrics. */
export const name = one("a name of letters, digits, '.', '_' and '-'", (given) =>
  /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(given) ? given : undefined,
);

/** A name as Kubernetes takes it for a namespace. */
export const dnsLabel = one("a name of at most 63 of a-z, 0-9 and '-'", (given) =>
  /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(given) ? given : undefined,
);

export function choice<const T extends string>(...words: readonly T[]): ValueType<T> {
  return { ...one(`one of ${words.join(", ")}`, (given) => words.find((word) => word === given)), choices: words };
}

export function wholeNumber(least: number, most = Number.MAX_SAFE_INTEGER): ValueType<number> {
  const allowed = most === Number.MAX_SAFE_INTEGER ? `${least} or more` : `from ${least} to ${most}`;
  return one(`a whole number, ${allowed}`, (given) => {
    const number = /^\d+$/.test(given) ? Number(given) : Number.NaN;
    return number >= least && number <= most ? number : undefined;
  });
}

/** In milliseconds. */
export const duration = one("a duration such as 14d, 1h30m or 90s", parseDuration);

/** How long a lease may last, in milliseconds: stores tell times by the second. */
export const leaseDuration = one("a duration of 12s or more, such as 2m", (given) => {
  const ms = parseDuration(given);
  return ms !== undefined && ms >= 12_000 ? ms : undefined;
});

/** In bytes. */
export const byteSize = one("a size such as 64MiB, 1.5GiB or 1048576", parseBytes);

export const timeZone = one("a time zone such as UTC or Europe/Berlin", (given) =>
  isTimeZone(given) ? given : undefined,
);

/** An absolute path. */
export const path = one("a path", (given, folder) => (given === "" ? undefined : resolve(folder, given)));

/** Of a program that is reached by a socket of its machine or by the network: an absolute path, or the address as it is. */
export const socket = one("a path or HOST:PORT", (given, folder) => {
  if (given === "") return undefined;
  return /^[^/\s]+:\d+$/.test(given) ? given : resolve(folder, given);
});

export const cron: ValueType<string> = {
  allowed: "a cron line such as '0 2 * * *' (minute, hour, day of month, month, day of week)",
  shape: "one",
  async parse([given = ""]) {
    const { cronProblem } = await import("../../schedule.ts");
    const wrong = cronProblem(given);
    return wrong === undefined ? { value: given } : { wrong };
  },
};

export const repositoryUrl = one(
  "s3://BUCKET/PREFIX, azure://ACCOUNT/CONTAINER/PREFIX, file:///PATH or a path; credentials do not belong in it",
  (given, folder) => {
    if (given === "") return undefined;
    if (!/^[a-z][a-z0-9+.-]*:/i.test(given)) return pathToFileURL(resolve(folder, given)).href;
    const url = URL.parse(given);
    if (url === null || !["s3:", "azure:", "file:"].includes(url.protocol)) return undefined;
    if (url.protocol !== "file:" && url.host === "") return undefined;
    return url.username === "" && url.password === "" ? given.replace(/\/+$/, "") : undefined;
  },
);

export const httpUrl = one("http://HOST[:PORT] or https://HOST[:PORT]", (given) => {
  const url = URL.parse(given);
  return url !== null && ["http:", "https:"].includes(url.protocol) ? given : undefined;
});

/** May hold a password. */
export const postgresUrl: ValueType<string> = {
  allowed: "postgresql://USER@HOST:PORT/DATABASE?sslmode=...",
  shape: "one",
  parse([given = ""]) {
    const { url, escaped } = withoutPassword(given);
    if (!isEscaped(escaped ?? "")) return { wrong: "has a password with a % that does not stand for a character" };
    try {
      parseConnection(url, undefined);
      return { value: given };
    } catch (error) {
      if (isPgkitError(error, "config")) return { wrong: `cannot be used: ${error.message.replace(/^.*?: /, "")}` };
      throw error;
    }
  },
};

function isEscaped(text: string): boolean {
  return !/%(?![0-9a-f]{2})/i.test(text);
}

export const ageRecipient = one("an age recipient (age1...)", (given) =>
  /^age1[0-9a-z]{20,}$/.test(given) ? given : undefined,
);
