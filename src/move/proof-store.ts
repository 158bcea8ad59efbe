import { isPgkitError } from "../lib/errors.ts";
import { moveFolder, moveProofKeys } from "../repo/layout.ts";
import { type RepositoryReader, readObject } from "../repo/repository.ts";
import type { SignalOption } from "../store/store.ts";
import type { ProofReport } from "./proof-report.ts";
import { proofText } from "./proof-text.ts";
import type { MoveContext, MoveFacts } from "./step.ts";

/** Stores the proof beside the journal of its move, as JSON and as text; a later one of the move takes its place. */
export async function storeProof(
  { repository, move, signal }: Pick<MoveContext, "repository" | "move" | "signal">,
  proof: ProofReport,
): Promise<void> {
  const keys = moveProofKeys(folderOf(move));
  await repository.store.put(keys.text, Buffer.from(proofText(proof)), { signal });
  await repository.store.put(keys.json, Buffer.from(`${JSON.stringify(proof, undefined, 2)}\n`), { signal });
}

/** The proof in this move's folder; `undefined` where the store says that there is none. */
export async function readProof(
  repository: RepositoryReader,
  folder: string,
  options: SignalOption = {},
): Promise<ProofReport | undefined> {
  try {
    return JSON.parse(await readObject(repository.store, moveProofKeys(folder).json, options)) as ProofReport;
  } catch (error) {
    if (isPgkitError(error, "object-missing")) return undefined;
    throw error;
  }
}

/** Where journal and proof of a move are. */
export function folderOf(move: Pick<MoveFacts, "source" | "database" | "id">): string {
  return moveFolder(move.source.instance, move.database, move.id);
}
