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

/** The text with these values instead, each in the quotes that it had where they can hold it. */
export function withValues(text: string, changes: readonly (readonly [EnvVariable, string])[]): string {
  const fromTheEnd = changes.toSorted(([a], [b]) => b.start - a.start);
  return fromTheEnd.reduce((rest, [variable, value]) => {
    const { start, end, quote } = variable;
    return `${rest.slice(0, start - quote.length)}${quoted(value, variable)}${rest.slice(end + quote.length)}`;
  }, text);
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

/** In the quotes that it had, and where nothing but ordinary characters has changed, as it is. */
function quoted(value: string, { raw, quote }: EnvVariable): string {
  const special = (text: string) => text.replaceAll(/[^\s#'"\\$`]/g, "");
  if (special(value) === special(raw)) return `${quote}${value}${quote}`;
  if (quote === "" && special(value) === "") return value;
  if (quote !== '"' && !value.includes("'")) return `'${value}'`;
  return `"${value.replaceAll(/["\\$`]/g, "\\$&")}"`;
}

function unreadable(where: string, name: string, what: string, hint: string): PgkitError {
  return new PgkitError("config", `${name} in ${where} ${what}`, { hint });
}
