import type { ObjectStore, StoreCapabilities } from "../../../src/store/store.ts";

export interface Expected {
  /** What the store must say of itself; what it lacks must be refused, and what it has must hold. */
  capabilities: Omit<StoreCapabilities, "clockSkewMs">;
  /** Sizes around this are tried: where the store goes over from one request to several. */
  partBytes?: number;
  /** How many keys are listed and removed at once; more than a page holds, where left out. */
  keys?: number;
  /** False where only objects that go up in one request are proven. */
  provesParts?: boolean;
  /** How long an object is kept in the test of retention; a server that counts in seconds needs several. */
  retainMs?: number;
}

/** What each group of promises is given: the store once it is open, and a folder of its own for each test. */
export type Given = () => ObjectStore;
export type Folder = () => string;
