import type { Owner } from "../../lib/owner.ts";
import { thisOwner } from "../../lib/owner.ts";
import type { Clock } from "../../lib/time.ts";
import { withClaim } from "./claim.ts";

/** A folder as a store: what every operation on it needs to know. */
export interface Place {
  /** Absolute. */
  root: string;
  where: string;
  clock: Clock;
  /** This process, found out once. */
  self: () => Promise<Owner>;
  /** Runs `work` while nobody else, in this process or another, changes `key`. */
  alone: <T>(key: string, work: (stillOurs: () => Promise<void>) => Promise<T>) => Promise<T>;
}

export function placeAt(root: string, clock: Clock): Place {
  let owner: Promise<Owner> | undefined;
  const self = () => {
    owner ??= thisOwner();
    return owner;
  };
  const inLine = lines();
  return {
    root,
    where: `file://${root}`,
    clock,
    self,
    alone: (key, work) => inLine(key, async () => withClaim(root, key, await self(), clock, work)),
  };
}

/** Lets the callers of one key wait for each other without touching the disk; claims are for other processes. */
function lines(): <T>(key: string, work: () => Promise<T>) => Promise<T> {
  const last = new Map<string, Promise<unknown>>();
  return async (key, work) => {
    const turn = Promise.allSettled([last.get(key)]).then(work);
    last.set(key, turn);
    try {
      return await turn;
    } finally {
      if (last.get(key) === turn) last.delete(key);
    }
  };
}
