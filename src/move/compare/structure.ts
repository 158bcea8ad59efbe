import type { Session } from "../../postgres/session.ts";
import type { Difference } from "../proof-report.ts";
import type { CatalogKind } from "./kinds.ts";
import { sameView } from "./same-view.ts";

export interface StructureProof {
  /** How many of each kind the source has. */
  readonly objects: Record<string, number>;
  readonly differences: Difference[];
}

/**
 * Compares the objects of these kinds in both sessions' database. Each side says in one
 * statement what it has, as a digest a kind; only kinds that differ are read in full.
 */
export async function compareStructure(
  source: Session,
  target: Session,
  kinds: readonly CatalogKind[],
): Promise<StructureProof> {
  const [wanted, found] = await Promise.all([digests(source, kinds), digests(target, kinds)]);
  const differing = kinds.filter(({ kind }) => wanted.get(kind)?.digest !== found.get(kind)?.digest);
  const differences: Difference[] = [];
  for (const kind of differing) {
    const [here, there] = await Promise.all([objectsOf(source, kind), objectsOf(target, kind)]);
    for (const difference of differencesOf(kind.kind, here, there)) {
      if (!(await isSame(target, difference))) differences.push(difference);
    }
  }
  const objects = Object.fromEntries(kinds.map(({ kind }) => [kind, wanted.get(kind)?.count ?? 0]));
  return { objects, differences };
}

interface Digest {
  kind: string;
  count: number;
  digest: string;
}

async function digests(session: Session, kinds: readonly CatalogKind[]): Promise<Map<string, Digest>> {
  const rows = await session.query<Digest>(
    kinds
      .map(
        ({ kind, sql }) => `SELECT '${kind}' AS kind, count(*)::int AS count,
          coalesce(sum(hashtextextended(concat_ws(' ', identity, definition) COLLATE "C", 0)), 0)::text AS digest
          FROM (${sql}) AS objects`,
      )
      .join("\nUNION ALL\n"),
  );
  return new Map(rows.map((row) => [row.kind, row]));
}

type Definition = Record<string, unknown>;

async function objectsOf(session: Session, { sql }: CatalogKind): Promise<Map<string, Definition>> {
  const rows = await session.query<{ identity: string; definition: Definition }>(`${sql} ORDER BY 1`);
  return new Map(rows.map(({ identity, definition }) => [identity, definition]));
}

function differencesOf(kind: string, here: Map<string, Definition>, there: Map<string, Definition>): Difference[] {
  return [
    ...[...here].flatMap(([object, wanted]) => {
      const found = there.get(object);
      if (found !== undefined) return facetsOf(kind, object, wanted, found);
      return isNotCopied(kind, wanted) ? [] : [{ kind, object, source: "there", target: undefined }];
    }),
    ...[...there.keys()]
      .filter((object) => !here.has(object))
      .map((object) => ({ kind, object, source: undefined, target: "there" })),
  ];
}

/** What a CREATE INDEX CONCURRENTLY has left that failed; pg_dump leaves it out. */
function isNotCopied(kind: string, definition: Definition): boolean {
  return kind === "index" && definition["valid"] === false && definition["parent"] === null;
}

function facetsOf(kind: string, object: string, wanted: Definition, found: Definition): Difference[] {
  return [...new Set([...Object.keys(wanted), ...Object.keys(found)])].flatMap((of) => {
    const [source, target] = [textOf(wanted[of]), textOf(found[of])];
    return source === target ? [] : [{ kind, object, ...told(of, source, target) }];
  });
}

/** Neither a secret nor its digest. */
function told(of: string, source: string | undefined, target: string | undefined): Omit<Difference, "kind" | "object"> {
  if (!of.endsWith(digestMark)) return { of, source, target };
  const one = (value: string | undefined, name: string) => (value === undefined ? undefined : name);
  return { of: of.slice(0, -digestMark.length), source: one(source, "another one"), target: one(target, "one") };
}

const digestMark = " (digest)";

/** `undefined` for what is not set, which JSON calls null. */
function textOf(value: unknown): string | undefined {
  if (value === null || value === undefined) return undefined;
  return typeof value === "string" ? value : JSON.stringify(value);
}

async function isSame(target: Session, difference: Difference): Promise<boolean> {
  const { kind, of } = difference;
  // The database that a move has made is marked so until `finish`, which puts the comment back.
  if (kind === "database" && of === "comment") return difference.target?.startsWith("pgkit move") === true;
  if (kind === "database" && of === "granted") return await differsByClosing(target, difference);
  return kind === "view definition" && (await sameView(target, difference));
}

/** Where pgkit is no superuser the target is closed by taking CONNECT away, and given back when it is opened. */
async function differsByClosing(session: Session, { source, target }: Difference): Promise<boolean> {
  const [row] = await session.query<{ superuser: boolean }>(
    "SELECT current_setting('is_superuser')::bool AS superuser",
  );
  const rest = (grants = "[]") => (JSON.parse(grants) as string[]).filter((grant) => !grant.startsWith("CONNECT to "));
  return row?.superuser === false && rest(source).join() === rest(target).join();
}
