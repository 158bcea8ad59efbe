/** What differs: an object, and what is compared of it, on both sides; `undefined` where it is not there. */
export interface Difference {
  /** As `table`, `index`, `sequence value`. */
  readonly kind: string;
  readonly object: string;
  /** Such as `definition`, `owner`, `rows`; left out where the object itself is on one side only. */
  readonly of?: string | undefined;
  readonly source: string | undefined;
  readonly target: string | undefined;
}

/**
 * `whole`: every row on both servers. `sampled`: rows of random places and the newest ones, each looked up on the other
 * server, and the number of all rows where `rows` is there. `left`: not looked at yet.
 */
export type ProofExtent = "whole" | "sampled" | "left";

export interface TableProof {
  /** As SQL spells it. */
  readonly name: string;
  readonly extent: ProofExtent;
  readonly bytes: number;
  readonly rows?: number | undefined;
  /** Of all rows, in any order; the same on both sides. */
  readonly checksum?: string | undefined;
  readonly sampledRows?: number | undefined;
  /** Rows that were changed meanwhile, and were compared again under a lock. */
  readonly settledRows?: number | undefined;
  readonly at: string;
}

/** What was compared of source and target. Holds names and counts, and no row. */
export interface ProofReport {
  readonly format: 1;
  readonly move: string;
  readonly database: string;
  readonly source: { readonly instance: string; readonly systemId: string; readonly lsn: string };
  readonly target: { readonly instance: string; readonly systemId: string; readonly lsn: string };
  /** `partly`: nothing differs, and what is left is proven by `prove-again`. */
  readonly state: "proven" | "partly" | "different";
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly durationMs: number;
  readonly tables: readonly TableProof[];
  /** Objects compared, by kind. */
  readonly objects: Readonly<Record<string, number>>;
  readonly sequences: number;
  /** `undefined` where pgkit may not read them all. */
  readonly largeObjects: string | undefined;
  readonly differences: readonly Difference[];
  /** What could not be compared, or not in full, and why. */
  readonly remarks: readonly string[];
}
