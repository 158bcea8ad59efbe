import { PgkitError } from "../lib/errors.ts";

/** A variable of an env file, and where its value stands: without its quotes. */
export interface EnvVariable {
  readonly name: string;
  /** As it stands in the file. */
  readonly raw: string;
  /** As the application reads it. */
  readonly value: string;
  readonly quote: "" | "'" | '"';
  readonly start: number;
  readonly end: number;
}

const line = /^[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*=[ \t]*/;

/**
 * The variables of an env file, as Docker, systemd and dotenv agree on them: `KEY=value`, also with `export`, in quotes,
 * and with a comment after a blank. Fails with `config` where one of `wanted` cannot be read or stands there twice.
 */
export function envVariables(text: string, wanted: readonly string[], where: string): Map<string, EnvVariable> {
  const variables = new Map<string, EnvVariable>();
  let at = 0;
  for (const whole of text.split(/(?<=\n)/)) {
    const start = at;
    at += whole.length;
    const [before = "", name = ""] = line.exec(whole) ?? [];
    if (!wanted.includes(name)) continue;
    if (variables.has(name)) throw unreadable(where, name, "stands there twice", "remove the one that is not read");
    variables.set(name, variableOf(name, whole.slice(before.length), start + before.length, where));
  }
  return variables;
}

/** A variable's new content: a text that stands as it is where the old one stood, or a value to be quoted. */
export interface EnvChange {
  readonly variable: EnvVariable;
  readonly raw?: string;
  readonly value?: string;
}

/** The text with these contents instead, each in the quotes that it had where they can hold it. */
export function withChanges(text: string, changes: readonly EnvChange[]): string {
  const fromTheEnd = changes.toSorted((a, b) => b.variable.start - a.variable.start);
  return fromTheEnd.reduce((rest, { variable: { start, end, quote }, raw, value = "" }) => {
    if (raw !== undefined) return `${rest.slice(0, start)}${raw}${rest.slice(end)}`;
    return `${rest.slice(0, start - quote.length)}${quoted(value, quote)}${rest.slice(end + quote.length)}`;
  }, text);
}

/** True where the reader puts in what another variable holds. */
export function refersToOthers({ raw, quote }: EnvVariable): boolean {
  return quote !== "'" && /(^|[^\\])\$\{/.test(raw);
}

function variableOf(name: string, rest: string, start: number, where: string): EnvVariable {
  const [, quote = ""] = /^(['"])/.exec(rest) ?? [];
  if (quote !== "'" && quote !== '"') {
    const raw = (/^(.*?)(?:\s+#.*|\s*)$/s.exec(rest)?.[1] ?? rest).trimEnd();
    return { name, raw, value: raw, quote: "", start, end: start + raw.length };
  }
  const form = quote === "'" ? /^'([^']*)'\s*(?:#.*)?$/s : /^"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$/s;
  const raw = form.exec(rest)?.[1];
  if (raw === undefined) {
    throw unreadable(
      where,
      name,
      "has a quote that does not end on its line",
      "write the value on one line, in quotes or without",
    );
  }
  const value = quote === "'" ? raw : raw.replaceAll(/\\(["\\$`])/g, "$1");
  return { name, raw, value, quote, start: start + 1, end: start + 1 + raw.length };
}

/** `value` is a URL, a host, a port or a name nearly always, and stays in the quotes that it had. */
function quoted(value: string, quote: EnvVariable["quote"]): string {
  if (quote === "" && !/[\s#'"\\$`]/.test(value)) return value;
  if (quote !== '"' && !value.includes("'")) return `'${value}'`;
  return `"${value.replaceAll(/["\\$`]/g, "\\$&")}"`;
}

function unreadable(where: string, name: string, what: string, hint: string): PgkitError {
  return new PgkitError("config", `${name} in ${where} ${what}`, { hint });
}
