import { contentRisks } from "./preflight/contents.ts";
import { extensionRisks } from "./preflight/extensions.ts";
import { type Found, type Known, know } from "./preflight/known.ts";
import { managedRisks } from "./preflight/managed.ts";
import { peerRisks } from "./preflight/peers.ts";
import { placeRisks } from "./preflight/place.ts";
import { roleRisks } from "./preflight/roles.ts";
import { connectionRisks, replicationRisks, serverRisks } from "./preflight/servers.ts";
import { trafficRisks } from "./preflight/traffic.ts";
import type { MoveContext, MoveFacts, Risk } from "./step.ts";
import { switchOutlook } from "./switch-risks.ts";

/** What a move of this database would meet, before anything is changed. */
export interface Assessment {
  /** Refusals first. */
  readonly risks: readonly Risk[];
  readonly estimates: Estimates;
  /** What can be done; `because` says what is in the way of `online`. */
  readonly way: { readonly possible: MoveFacts["mode"] | "none"; readonly because: readonly string[] };
}

export interface Estimates {
  readonly bytes: number;
  readonly tables: number;
  /** Of the whole move, until the switch. */
  readonly seconds: number;
  /** How long writes are blocked. */
  readonly blockMs?: number | undefined;
}

/** Looks at both servers and at what points the application; changes nothing. Fails where one cannot be asked. */
export async function assess(context: MoveContext): Promise<Assessment> {
  const known = await know(context);
  const found = [
    ...[...serverRisks(known), ...replicationRisks(known), ...connectionRisks(known), ...contentRisks(known)],
    ...trafficRisks(known),
    ...(
      await Promise.all([
        ...[placeRisks(known), extensionRisks(known), roleRisks(known), managedRisks(known), switchRisks(context)],
      ])
    ).flat(),
  ];
  // Where the servers cannot replicate at all, that they do not reach each other is no news.
  found.push(...(await peerRisks(known)));
  const risks = found.toSorted((a, b) => Number(a.level === "warning") - Number(b.level === "warning"));
  return { risks: risks.map(plain), estimates: estimate(known), way: possibleWay(risks) };
}

async function switchRisks(context: MoveContext): Promise<readonly Found[]> {
  return (await switchOutlook(context)).risks;
}

/** Online is the default; where only that is in the way, the move can be made offline. */
export function possibleWay(found: readonly Found[]): Assessment["way"] {
  const refusals = found.filter(({ level }) => level === "refusal");
  const because = refusals.map(({ message }) => message);
  if (refusals.length === 0) return { possible: "online", because };
  return { possible: refusals.every(({ onlineOnly }) => onlineOnly === true) ? "offline" : "none", because };
}

function plain({ level, message, hint }: Found): Risk {
  return { level, message, hint };
}

/** Measured on two cores with a local disk: copy with indexes; a network or a slow disk makes it longer. */
const copyBytesPerSecond = 60 * 1024 * 1024;

/** Opening and closing, the drain, sequences, the switch. */
const blockOverheadMs = 500;

function estimate({ context, database }: Known): Estimates {
  const { sizeBytes, tables } = database;
  const copySeconds = sizeBytes / copyBytesPerSecond;
  // The backup before it reads all once more.
  const seconds = Math.ceil(5 + 1.5 * copySeconds);
  const blockMs = context.move.mode === "online" ? blockOverheadMs : Math.ceil(1000 * copySeconds) + 5000;
  return { bytes: sizeBytes, tables, seconds, blockMs };
}
