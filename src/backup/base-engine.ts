import type { Lsn } from "../lib/lsn.ts";
import type { Report } from "../lib/report.ts";
import type { Connection } from "../postgres/connection.ts";
import type { BaseArchives } from "./base-archives.ts";

/** What a base backup is to be, for whichever engine takes it. */
export interface BaseOrder {
  /** One host. */
  connection: Connection;
  label: string;
  checkpoint: "fast" | "spread";
  maxRate: number | undefined;
  level: number;
  workers: number;
  withWal: boolean;
  /** Name for a slot that lasts as long as the backup is taken. */
  slot: string;
  /** The backup_manifest of the parent of an incremental one. */
  parentManifest: Uint8Array | undefined;
  report: Report;
  signal: AbortSignal;
  /** Bytes of the data directory read so far, and how many the server expects. */
  onProgress(bytes: number, totalBytes: number): void;
}

/** Where a base backup began and ended, as the server said. */
export interface BaseRange {
  timeline: number;
  startLsn: Lsn;
  stopLsn: Lsn;
  /** Bytes of the data directory with all tablespaces, as the server counted them. */
  sizeBytes: number;
}

/** Takes a base backup into `archives`. */
export type BaseEngine = (order: BaseOrder, archives: BaseArchives) => Promise<BaseRange>;
