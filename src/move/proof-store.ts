import { isPgkitError } from "../lib/errors.ts";
import { moveFolder, moveProofKeys } from "../repo/layout.ts";
import { type RepositoryReader, readObject } from "../repo/repository.ts";
import { type ProofReport, proofText } from "./proof-report.ts";
import type { MoveContext } from "./step.ts";

type Stored = Pick<MoveContext, "repository" | "move" | "signal">;

/** Stores the proof beside the journal of its move, as JSON and as text; a later one of the move takes its place. */
export async function storeProof({ repository, move, signal }: Stored, proof: ProofReport): Promise<void> {
  const keys = keysOf({ move });
  await repository.store.put(keys.text, Buffer.from(proofText(proof)), { signal });
  await repository.store.put(keys.json, Buffer.from(`${JSON.stringify(proof, undefined, 2)}\n`), { signal });
}

/** The stored proof; `undefined` where the store says that there is none. */
export async function readProof({
  repository,
  move,
  signal,
}: Pick<Stored, "move" | "signal"> & { repository: RepositoryReader }): Promise<ProofReport | undefined> {
  try {
    return JSON.parse(await readObject(repository.store, keysOf({ move }).json, { signal })) as ProofReport;
  } catch (error) {
    if (isPgkitError(error, "object-missing")) return undefined;
    throw error;
  }
}

function keysOf({ move }: Pick<Stored, "move">): { json: string; text: string } {
  return moveProofKeys(moveFolder(move.source.instance, move.database, move.id));
}
