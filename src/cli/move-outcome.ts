import type { JournalView } from "../move/journal.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import type { CommandContext } from "./command.ts";
import { moveJson, moveText } from "./move-text.ts";

/** Prints where a move is, with its proof where there is one. */
export async function concludeMove(
  { out, signal }: CommandContext,
  repository: RepositoryReader,
  journal: JournalView,
): Promise<number> {
  const { readProof } = await import("../move/proof-store.ts");
  const { proofText } = await import("../move/proof-text.ts");
  const proof = await readProof(repository, journal.folder, { signal });
  out.result({
    json: moveJson(journal, proof),
    text: () => moveText(journal, proof === undefined ? undefined : proofText(proof)),
  });
  return 0;
}
