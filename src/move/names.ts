import type { MoveFacts } from "./step.ts";

/** What the move is called on the servers, there and back: one name for publication, slot and subscription. */
export interface FeedNames {
  /** Source to target: `pgkit_move_20261129t180000z_3f9a`. */
  readonly forward: string;
  /** Target to source, from the switch on: `pgkit_back_...`. */
  readonly back: string;
}

/** A slot's name may have lower-case letters, digits and underscores, and 63 of them. */
export function feedNames({ id }: Pick<MoveFacts, "id">): FeedNames {
  const safe = id.toLowerCase().replaceAll(/[^a-z0-9]/g, "_");
  return { forward: `pgkit_move_${safe}`.slice(0, 63), back: `pgkit_back_${safe}`.slice(0, 63) };
}
