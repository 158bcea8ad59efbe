import type { Lsn } from "../lib/lsn.ts";

/** When the server's WAL had reached which position, as far as it is not stored. */
export interface LagSamples {
  samples: { lsn: Lsn; atMs: number }[];
}

const mostSamples = 500;

/** Seconds since the oldest WAL that is not stored was seen on the server; 0 when all is stored. */
export function lagSeconds(lag: LagSamples, server: Lsn, stored: Lsn | undefined, nowMs: number): number {
  const last = lag.samples.at(-1);
  if (last === undefined || server > last.lsn) lag.samples.push({ lsn: server, atMs: nowMs });
  const firstLate = stored === undefined ? 0 : lag.samples.findIndex(({ lsn }) => lsn > stored);
  if (firstLate < 0) {
    lag.samples = [];
    return 0;
  }
  lag.samples.splice(0, firstLate);
  // Every second one of the newer half goes: what is old stays exact, for it decides.
  if (lag.samples.length > mostSamples) {
    lag.samples = lag.samples.filter((_, index) => index < mostSamples / 2 || index % 2 === 0);
  }
  return Math.round((nowMs - (lag.samples[0]?.atMs ?? nowMs)) / 1000);
}

export interface Thresholds {
  warnBytes: number;
  alertBytes: number;
  warnAfterMs: number;
  alertAfterMs: number;
}

export type Level = "fine" | "warn" | "alert";

export function lagLevel(retainedBytes: number, seconds: number, limits: Thresholds): Level {
  if (retainedBytes >= limits.alertBytes || seconds * 1000 >= limits.alertAfterMs) return "alert";
  return retainedBytes >= limits.warnBytes || seconds * 1000 >= limits.warnAfterMs ? "warn" : "fine";
}
