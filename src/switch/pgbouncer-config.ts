import { PgkitError } from "../lib/errors.ts";
import type { EndpointAddress } from "./switcher.ts";

/** An entry of `[databases]`: https://www.pgbouncer.org/config.html */
export interface DatabaseEntry {
  readonly name: string;
  readonly host: string | undefined;
  readonly port: number;
  /** The database on the server; the entry's own name where it says none. */
  readonly database: string;
  /** Where the entry's value begins and ends in the text. */
  readonly start: number;
  readonly end: number;
}

/** What one line of the configuration says, in its order. */
export type ConfigLine =
  | { readonly type: "section"; readonly name: string }
  | { readonly type: "include"; readonly name: string }
  | { readonly type: "setting"; readonly name: string; readonly value: string; readonly start: number };

/** The lines of one file that are not comments. Which section a setting is in may be said by an included file. */
export function configLines(text: string): ConfigLine[] {
  let at = 0;
  return text.split(/(?<=\n)/).flatMap((line): ConfigLine[] => {
    const start = at;
    at += line.length;
    if (/^\s*[;#]/.test(line)) return [];
    const include = /^\s*%include[ \t]+(.*?)\s*$/.exec(line)?.[1];
    if (include !== undefined) return [{ type: "include", name: include }];
    const section = /^\s*\[([^\]]*)\]/.exec(line)?.[1];
    if (section !== undefined) return [{ type: "section", name: section.trim() }];
    const [, before = "", spelled = "", value = ""] =
      /^(\s*("(?:[^"]|"")*"|[^\s="]+)\s*=\s*)(.*?)\s*$/s.exec(line) ?? [];
    if (spelled === "") return [];
    const name = spelled.startsWith('"') ? spelled.slice(1, -1).replaceAll('""', '"') : spelled;
    return [{ type: "setting", name, value, start: start + before.length }];
  });
}

/** A setting of `[databases]`. Fails with `config` where it cannot be read. */
export function entryOf({ name, value, start }: ConfigLine & { type: "setting" }, path: string): DatabaseEntry {
  const settings = settingsOf(value);
  const valueFor = (key: string) => settings?.findLast((one) => one.key === key)?.value;
  const port = valueFor("port") ?? "5432";
  if (settings === undefined || !/^\d+$/.test(port)) {
    throw new PgkitError("config", `the entry ${name} of [databases] in ${path} cannot be read`, {
      hint: "write it as PgBouncer does: name = host=... port=... dbname=...",
    });
  }
  const end = start + value.length;
  return { name, host: valueFor("host"), port: Number(port), database: valueFor("dbname") ?? name, start, end };
}

/** The text with host, port and dbname of one entry changed where they stand, or added, and every other byte as it was. */
export function pointEntry(text: string, entry: DatabaseEntry, to: EndpointAddress): string {
  let value = text.slice(entry.start, entry.end);
  const set = (key: string, wanted: string, isRight: boolean) => {
    if (isRight) return;
    const found = settingsOf(value)?.findLast((one) => one.key === key);
    if (found !== undefined) value = `${value.slice(0, found.start)}${quote(wanted)}${value.slice(found.end)}`;
    else value = `${value}${value === "" ? "" : " "}${key}=${quote(wanted)}`;
  };
  set("host", to.host, to.host === entry.host);
  set("port", String(to.port), to.port === entry.port);
  set("dbname", to.database, to.database === entry.database);
  return `${text.slice(0, entry.start)}${value}${text.slice(entry.end)}`;
}

interface Setting {
  readonly key: string;
  readonly value: string;
  readonly start: number;
  readonly end: number;
}

/** `key=value`, or `key='it''s'`; `undefined` where the text is something else. */
function settingsOf(text: string): Setting[] | undefined {
  const settings: Setting[] = [];
  const form = /\s*(\w+)\s*=\s*('(?:[^']|'')*'|[^\s']*)(?=\s|$)/gy;
  let at = 0;
  while (text.slice(at).trim() !== "") {
    form.lastIndex = at;
    const [whole, key = "", raw = ""] = form.exec(text) ?? [];
    if (whole === undefined) return undefined;
    at += whole.length;
    const value = raw.startsWith("'") ? raw.slice(1, -1).replaceAll("''", "'") : raw;
    settings.push({ key, value, start: at - raw.length, end: at });
  }
  return settings;
}

function quote(value: string): string {
  return /^[^\s']+$/.test(value) ? value : `'${value.replaceAll("'", "''")}'`;
}
