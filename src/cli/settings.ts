import { resolve } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import { nearest } from "../lib/nearest.ts";
import { type ConfigFile, type FileProblem, placeKey } from "./config-file.ts";
import type { Option, ValueOf } from "./options/option.ts";

/** Where a value came from, as a message names it: `--progress`, `PGKIT_PROGRESS`, `pgkit.yaml:12:5` or `default`. */
export type Source = { readonly from: "flag" | "env" | "file"; readonly where: string } | { readonly from: "default" };

/** Every option's value after flags, environment, file and defaults were laid over each other. */
export interface Settings {
  /** The value of a row; `names` are the names of the file that stand for the `*` and `[]` of its key. */
  get<Row extends Option<unknown>>(row: Row, ...names: string[]): ValueOf<Row>;
  source(row: Option<unknown>, ...names: string[]): Source;
  /** The names that the file gives at a wildcard, in its order: `names("instances")`. */
  names(...path: string[]): readonly string[];
  /** Where a map or a list item of the file stands; `undefined` where it is not in the file. */
  place(...path: string[]): string | undefined;
}

export interface SettingsInput {
  readonly options: readonly Option<unknown>[];
  /** Texts of the flags that were given. */
  readonly flags: ReadonlyMap<Option<unknown>, readonly string[]>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly file: (ConfigFile & { readonly folder: string }) | undefined;
  /** Relative paths of flags and variables are relative to this folder. */
  readonly cwd: string;
  /** What is wrong already, to be told together with the rest. */
  readonly problems: readonly FileProblem[];
}

/** Parses every value that was given. Fails with `usage` for a flag, else `config`, naming every problem at once. */
export async function resolveSettings(input: SettingsInput): Promise<Settings> {
  const found = new Map<string, { value: unknown; source: Source }>();
  const problems: FileProblem[] = [...input.problems];
  const add = async (given: Given) => {
    const parsed = await given.option.type.parse(given.texts, given.folder);
    if ("value" in parsed) found.set(idOf(given.option, given.names), { value: parsed.value, source: given.source });
    else problems.push(wrongValue(given, parsed.wrong));
  };
  for (const value of input.file?.values ?? []) {
    const names = namesIn(value.option, value.path);
    const source = { from: "file", where: value.where } as const;
    await add({ ...value, names, source, folder: resolve(input.cwd, input.file?.folder ?? ".") });
  }
  for (const given of givenByEnvironment(input)) await add(given);
  if (problems.length > 0) throw settingsError("config", problems);

  for (const [option, texts] of input.flags) {
    const where = flagName(option);
    await add({ option, names: [], texts, source: { from: "flag", where }, folder: input.cwd });
  }
  if (problems.length > 0) throw settingsError("usage", problems);
  return settingsOf(found, input.file?.places ?? new Map());
}

/** `--progress` of a row. */
export function flagName(option: Option<unknown>): string {
  return /--[a-z-]+/.exec(option.flag ?? "")?.[0] ?? "";
}

/** Several problems as one error. */
export function settingsError(code: "config" | "usage", problems: readonly FileProblem[]): PgkitError {
  const [first, ...others] = problems;
  if (first !== undefined && others.length === 0) {
    return new PgkitError(code, first.message, first.hint === undefined ? {} : { hint: first.hint });
  }
  const lines = problems.map(({ message, hint }) => `  ${message}${hint === undefined ? "" : ` (${hint})`}`);
  return new PgkitError(code, `the configuration has ${problems.length} problems:\n${lines.join("\n")}`);
}

interface Given {
  readonly option: Option<unknown>;
  readonly names: readonly string[];
  readonly texts: readonly string[];
  readonly source: Source;
  readonly folder: string;
}

function* givenByEnvironment(input: SettingsInput): Generator<Given> {
  for (const option of input.options) {
    const text = option.env === undefined ? undefined : input.env[option.env];
    // An empty variable is how a shell or a manifest leaves one out.
    if (option.env === undefined || text === undefined || text === "") continue;
    const texts = option.type.shape === "list" ? splitList(text) : [text];
    yield { option, names: [], texts, source: { from: "env", where: option.env }, folder: input.cwd };
  }
}

/** `a, b,c` as three texts. */
export function splitList(text: string): string[] {
  return text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

/** A variable that looks like a misspelled one is an error; others may be anybody's, such as those Kubernetes makes of a Service. */
export function misspelledVariables(input: Pick<SettingsInput, "options" | "env" | "file">): FileProblem[] {
  const known = input.options.flatMap((option) => option.env ?? []).filter((name) => name.startsWith("PGKIT_"));
  const referenced = (input.file?.values ?? [])
    .filter((value) => value.option.key?.endsWith(".passwordFrom.env"))
    .flatMap((value) => value.texts);
  return Object.keys(input.env)
    .filter((name) => name.startsWith("PGKIT_") && !known.includes(name) && !referenced.includes(name))
    .filter((name) => !/_(SERVICE_HOST|SERVICE_PORT|PORT)(_|$)/.test(name) && name !== "PGKIT_PORT")
    .flatMap((name) => {
      const close = nearest(
        name.slice("PGKIT_".length),
        known.map((each) => each.slice("PGKIT_".length)),
      );
      return close === undefined ? [] : [{ message: `unknown variable ${name}`, hint: `did you mean PGKIT_${close}?` }];
    });
}

function wrongValue(given: Given, wrong: string | undefined): FileProblem {
  const { option, source } = given;
  const what = source.from === "file" ? `${source.where}: ${pathOf(given)}` : "where" in source ? source.where : "";
  const value = option.secret === true ? "" : `, not '${given.texts.join(",")}'`;
  return {
    message: wrong === undefined ? `${what} must be ${option.type.allowed}${value}` : `${what} ${wrong}${value}`,
    hint: `what it is for: ${option.doc}`,
  };
}

function pathOf(given: Given): string {
  return withNames(given.option.key ?? "", given.names).join(".");
}

/** `instances.*.url` and `shared` as `["instances", "shared", "url"]`. */
function withNames(key: string, names: readonly string[]): string[] {
  const rest = [...names];
  return key.split(".").map((step) => (step === "*" || step === "[]" ? (rest.shift() ?? step) : step));
}

function namesIn(option: Option<unknown>, path: readonly string[]): string[] {
  const steps = option.key?.split(".") ?? [];
  return path.filter((_, index) => steps[index] === "*" || steps[index] === "[]");
}

function idOf(option: Option<unknown>, names: readonly string[]): string {
  return JSON.stringify([option.key ?? option.flag ?? option.env, ...names]);
}

function settingsOf(
  found: ReadonlyMap<string, { value: unknown; source: Source }>,
  places: ReadonlyMap<string, string>,
): Settings {
  return {
    // The map holds what the row's own type parsed, so it is of the row's type.
    get: <Row extends Option<unknown>>(row: Row, ...names: string[]) =>
      (found.get(idOf(row, names))?.value ?? row.default) as ValueOf<Row>,
    source: (row, ...names) => found.get(idOf(row, names))?.source ?? { from: "default" },
    names: (...path) => {
      const start = placeKey([...path, ""]);
      const inside = [...places.keys()].filter((place) => place.startsWith(start));
      return inside.map((place) => place.slice(start.length)).filter((name) => !name.includes("\0"));
    },
    place: (...path) => places.get(placeKey(path)),
  };
}
