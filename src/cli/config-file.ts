import type { Document, Node, YAMLMap } from "yaml";
import { nearest } from "../lib/nearest.ts";
import type { Option } from "./options/option.ts";

/** One value of the file, still text, with the row of the table that it belongs to. */
export interface FileValue {
  readonly option: Option<unknown>;
  /** With the names that the file gives, such as `["instances", "shared", "url"]`. */
  readonly path: readonly string[];
  readonly texts: readonly string[];
  /** `pgkit.yaml:12:5` */
  readonly where: string;
}

/** Something that is wrong in the file. */
export interface FileProblem {
  readonly message: string;
  readonly hint?: string | undefined;
}

export interface ConfigFile {
  readonly values: readonly FileValue[];
  /** Where each map and list item stands, by `placeKey` of its path. */
  readonly places: ReadonlyMap<string, string>;
  readonly problems: readonly FileProblem[];
}

/** Reads YAML against the option table. Gives every problem, not only the first; never fails and never quotes a value. */
export async function readConfigFile(
  text: string,
  file: string,
  options: readonly Option<unknown>[],
): Promise<ConfigFile> {
  const yaml = await import("yaml");
  const lines = new yaml.LineCounter();
  const document = yaml.parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const whereOf = (offset: number | undefined) => {
    const { line, col } = lines.linePos(offset ?? 0);
    return `${file}:${line}:${col}`;
  };
  // The first is what is wrong; the rest is what the parser then makes of it.
  const problems = [...document.errors, ...document.warnings].slice(0, 1).map((error) => ({
    message: `${whereOf(error.pos[0])}: this cannot be read as YAML: ${withoutQuotes(error.message)}`,
    hint: "look at the brackets, quotes and indentation there; a text with : # [ { or * in it needs quotes",
  }));
  const reading: Reading = { yaml, document, whereOf, values: [], places: new Map(), problems };
  const rows = options.flatMap((option) => (option.key === undefined ? [] : [{ option, key: option.key.split(".") }]));
  if (problems.length === 0) readNode(reading, document.contents, [], rows);
  return reading;
}

/** Names may hold dots, but not this. */
export function placeKey(path: readonly string[]): string {
  return path.join("\0");
}

interface Reading extends ConfigFile {
  readonly yaml: typeof import("yaml");
  readonly document: Document;
  readonly whereOf: (offset: number | undefined) => string;
  readonly values: FileValue[];
  readonly places: Map<string, string>;
  readonly problems: FileProblem[];
}

interface Row {
  readonly option: Option<unknown>;
  readonly key: readonly string[];
}

/** Reads what stands at `path`, where only `rows` can apply. */
function readNode(reading: Reading, found: unknown, path: readonly string[], rows: readonly Row[]): void {
  const { yaml, document, problems } = reading;
  const node = yaml.isAlias(found) ? found.resolve(document) : found;
  const where = reading.whereOf(yaml.isNode(found) ? found.range?.[0] : undefined);
  reading.places.set(placeKey(path), where);
  const leaf = rows.find((row) => row.key.length === path.length);
  if (yaml.isAlias(found) && node === undefined) {
    problems.push({ message: `${where}: ${named(path)} is an alias (*) of no anchor`, hint: "put a text in quotes" });
    return;
  }
  // A map whose keys are all commented out is empty, not wrong.
  if (!yaml.isNode(node) || (leaf === undefined && yaml.isScalar(node) && node.value === null)) return;
  const isList = rows.some((row) => row.key[path.length] === "[]");
  if (leaf !== undefined) readLeaf(reading, leaf.option, node, path);
  else if (yaml.isMap(node) && !isList) readMap(reading, node, path, rows);
  else if (yaml.isSeq(node) && isList) {
    for (const [index, item] of node.items.entries()) {
      readNode(reading, item, [...path, String(index)], below(rows, path.length, "[]"));
    }
  } else
    problems.push({
      message: `${where}: ${named(path)} must be ${shapeOf(rows, path.length)}`,
      hint: "docs/reference.md names every key",
    });
}

function readMap(reading: Reading, map: YAMLMap, path: readonly string[], rows: readonly Row[]): void {
  const known = stepsOf(rows, path.length);
  for (const pair of map.items) {
    const key = reading.yaml.isScalar(pair.key) ? String(pair.key.value) : "";
    const step = known.includes(key) ? key : known.includes("*") ? "*" : undefined;
    const where = reading.whereOf(reading.yaml.isNode(pair.key) ? pair.key.range?.[0] : undefined);
    if (step === undefined) reading.problems.push(unknownKey(key, path, known, where));
    else readNode(reading, pair.value, [...path, key], below(rows, path.length, step));
  }
}

function readLeaf(reading: Reading, option: Option<unknown>, node: Node, path: readonly string[]): void {
  const { yaml, document } = reading;
  const where = reading.whereOf(node.range?.[0]);
  const items = yaml.isSeq(node) && option.type.shape === "list" ? node.items : [node];
  const scalars = items.map((item) => (yaml.isAlias(item) ? item.resolve(document) : item)).filter(yaml.isScalar);
  if (scalars.length === items.length) reading.values.push({ option, path, texts: scalars.map(scalarText), where });
  else
    reading.problems.push({
      message: `${where}: ${named(path)} must be ${option.type.allowed}`,
      hint: `what it is for: ${option.doc}`,
    });
}

function below(rows: readonly Row[], depth: number, step: string): readonly Row[] {
  return rows.filter((row) => row.key[depth] === step);
}

/** As it was written: `01` stays `01`, and a date stays what the user sees. */
function scalarText(scalar: { source?: string; value: unknown }): string {
  return scalar.source ?? String(scalar.value);
}

function unknownKey(key: string, path: readonly string[], known: readonly string[], where: string): FileProblem {
  const close = nearest(key, known);
  const inside = path.length === 0 ? "" : ` in ${path.join(".")}`;
  const allowed = `known here: ${known.join(", ")}`;
  return {
    message: `${where}: unknown key '${key}'${inside}`,
    hint: close === undefined ? allowed : `did you mean '${close}'? ${allowed}`,
  };
}

function named(path: readonly string[]): string {
  return path.length === 0 ? "the file" : path.join(".");
}

function stepsOf(rows: readonly Row[], depth: number): readonly string[] {
  return [...new Set(rows.flatMap((row) => row.key[depth] ?? []))];
}

function shapeOf(rows: readonly Row[], depth: number): string {
  const known = stepsOf(rows, depth);
  if (known.includes("[]")) return "a list";
  return known.includes("*") ? "a map of names" : `a map with the keys ${known.join(", ")}`;
}

/** The parser's messages may end with a piece of the file, and the piece may be of a password. */
function withoutQuotes(message: string): string {
  return message.replace(/(: | %)[\s\S]*$/, "");
}
