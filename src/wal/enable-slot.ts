import { PgkitError } from "../lib/errors.ts";
import type { ArchivingFacts } from "../postgres/archiving.ts";
import { identifier } from "../postgres/quote.ts";

/**
 * `replace`: it has lost WAL and can only be made anew. `after-restart`: the server runs without slots until then.
 * `kept`: it is there already.
 */
export interface SlotPlan {
  name: string;
  action: "create" | "replace" | "after-restart" | "kept";
}

/** Fails with `refused-overwrite` where the name is taken, `server-settings` where no slot is free, or `postgres-denied`. */
export function planSlot(facts: ArchivingFacts, name: string): SlotPlan {
  const { slots, settings, mayReplicate, user } = facts;
  if (!mayReplicate) {
    throw new PgkitError("postgres-denied", `${user} may not follow the server's WAL`, {
      hint: `ALTER ROLE ${identifier(user)} REPLICATION`,
    });
  }
  const there = slots.find((slot) => slot.name === name);
  if (there !== undefined && !there.physical) {
    throw new PgkitError("refused-overwrite", `the slot ${name} is there and is not a physical one`, {
      hint: "set archive.slot of the instance to another name",
    });
  }
  if (there !== undefined) return { name, action: there.walStatus === "lost" ? "replace" : "kept" };
  const most = Number(settings.get("max_replication_slots")?.running ?? 0);
  if (most === 0 || settings.get("wal_level")?.running === "minimal") return { name, action: "after-restart" };
  if (slots.length >= most) {
    throw new PgkitError("server-settings", `all ${most} slots of max_replication_slots are taken`, {
      hint: `drop one that nobody needs, or raise max_replication_slots and restart: ${slots.map((slot) => slot.name).join(", ")}`,
    });
  }
  return { name, action: "create" };
}
