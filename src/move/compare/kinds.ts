import { codeKinds } from "./kinds-code.ts";
import { dataKinds } from "./kinds-data.ts";
import { relationKinds } from "./kinds-relations.ts";
import { rightsKinds } from "./kinds-rights.ts";
import { serverKinds } from "./kinds-server.ts";

/** One kind of object that both servers must have alike. */
export interface CatalogKind {
  /** As messages call it. */
  readonly kind: string;
  /** Gives `identity` (text) and `definition` (jsonb, an object of what is compared by name) of each. */
  readonly sql: string;
}

export interface CatalogScope {
  /** The older of the two servers' majors: what that one cannot say is not compared. */
  readonly lowestMajor: number;
  /** The roles that must be alike. */
  readonly roles: readonly string[];
  /** Both sides may read the roles' verifiers. */
  readonly verifiers: boolean;
  /** Random, for this comparison alone: secrets are compared by a digest over it. */
  readonly salt: string;
}

/** Everything of a database, and of the server around it, that a move must keep, but for the rows. */
export function catalogKinds(scope: CatalogScope): readonly CatalogKind[] {
  return [...serverKinds(scope), ...relationKinds, ...codeKinds, ...dataKinds(scope), ...rightsKinds(scope)];
}
