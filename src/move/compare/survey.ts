import type { Clock } from "../../lib/time.ts";
import { identifier } from "../../postgres/quote.ts";
import { hashOfTable } from "../../restore/content-sql.ts";
import type { Difference } from "../proof-report.ts";
import { differenceText } from "../proof-text.ts";
import type { MoveContext } from "../step.ts";
import type { Both } from "./both.ts";
import { catalogFingerprint } from "./fingerprint.ts";
import { catalogKinds } from "./kinds.ts";
import { serverKinds } from "./kinds-server.ts";
import { type ComparedRoles, scopeOf } from "./scope.ts";
import { compareStructure } from "./structure.ts";
import { provableTables } from "./table-list.ts";

/** What was found of everything but the rows. */
export interface Survey {
  /** Of the catalogs as they were just before: as long as they stay so, nothing needs to be compared again. */
  readonly fingerprints: { readonly source: string; readonly target: string };
  /** How many of each kind. */
  readonly objects: Readonly<Record<string, number>>;
  /** What one worker hashes on these servers, both sides at once. */
  readonly bytesPerMs: number;
  readonly remarks: readonly string[];
  /** Those that were compared, and whether with their passwords. */
  readonly roles: ComparedRoles;
  readonly differences: readonly Difference[];
}

/** Compares every object, role, grant and setting. With `known`, only what is cheap where no DDL has been run since. */
export async function survey(context: MoveContext, both: Both, known?: Survey): Promise<Survey> {
  const { source, target } = both;
  const fingerprints = await fingerprintsOf(both);
  const isKnown =
    known?.fingerprints.source === fingerprints.source && known.fingerprints.target === fingerprints.target;
  const scope = await scopeOf(context, both, isKnown ? known.roles : undefined);
  const kinds = isKnown ? serverKinds(scope) : catalogKinds(scope);
  const { objects, differences: all } = await compareStructure(source, target, kinds);
  const accepted = acceptedOf(context);
  const differences = all.filter((difference) => !accepted(difference));
  return {
    ...{ fingerprints, differences, roles: { names: scope.roles, verifiers: scope.verifiers } },
    objects: { ...(isKnown ? known.objects : {}), ...objects },
    bytesPerMs: known?.bytesPerMs ?? (await hashingRate(both, context.clock)),
    remarks: [
      ...all.filter(accepted).map((difference) => `accepted: ${differenceText(difference)}`),
      ...(scope.verifiers ? [] : ["the passwords of roles were not compared: pgkit may not read pg_authid on both"]),
    ],
  };
}

/**
 * What `preflight` has told, and a move leaves as it is: roles that the target had before, as others may use them, and
 * extensions in the version that a newer major comes with.
 */
function acceptedOf({ planOf, move }: MoveContext): (difference: Difference) => boolean {
  const { existing = [] } = planOf<{ existing?: readonly string[] }>({ name: "copy-roles" }) ?? {};
  const before = new Set(existing.map(nameOfRole));
  return ({ kind, object, of, source }) => {
    if (kind === "role") return before.has(object);
    // `of MEMBER in GROUP`
    if (kind === "membership") return source === undefined && before.has(object.slice(3, object.lastIndexOf(" in ")));
    return kind === "extension" && of === "version" && move.target.major > move.source.major;
  };
}

/** As quote_ident spells it. */
function nameOfRole(name: string): string {
  return /^[a-z_][a-z0-9_$]*$/.test(name) ? name : identifier(name);
}

async function fingerprintsOf(both: Both): Promise<Survey["fingerprints"]> {
  const [source, target] = await Promise.all([catalogFingerprint(both.source), catalogFingerprint(both.target)]);
  return { source, target };
}

/** Where there is too little to measure: what a slow core does. */
export const defaultBytesPerMs = 20_000;

/** Of the biggest table that is hashed in a moment. */
const [leastBytes, mostBytes] = [1024 * 1024, 16 * 1024 * 1024];

async function hashingRate({ source, target }: Both, clock: Clock): Promise<number> {
  const tables = await provableTables(source);
  const table = tables.find(({ bytes }) => bytes >= leastBytes && bytes <= mostBytes);
  if (table === undefined) return defaultBytesPerMs;
  const startedMs = clock.monotonicMs();
  await Promise.all([hashOfTable(source, table), hashOfTable(target, table)]);
  return Math.max(1, Math.round(table.bytes / Math.max(1, clock.monotonicMs() - startedMs)));
}
