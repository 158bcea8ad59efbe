import { createHash, randomUUID } from "node:crypto";
import type { BlockBlobClient, BlockBlobUploadOptions } from "@azure/storage-blob";
import { isPgkitError } from "../../lib/errors.ts";
import { asBuffer } from "../body.ts";
import { pause } from "../cancel.ts";
import { once } from "../once.ts";
import { answerOf } from "./errors.ts";
import type { AzureLink } from "./link.ts";
import { quoted, rawHead } from "./read.ts";

/** What the service really does, each asked once and only when needed, with blobs of a few bytes under `probe/`. */
export interface AzureProbes {
  createIfAbsent(signal?: AbortSignal): Promise<boolean>;
  compareAndSet(signal?: AbortSignal): Promise<boolean>;
  checksum(signal?: AbortSignal): Promise<"md5" | "none">;
  objectLock(signal?: AbortSignal): Promise<boolean>;
}

const content = Buffer.from("a probe of pgkit");
const right = createHash("md5").update(content).digest();
const wrong = createHash("md5").update("other bytes").digest();
const probeLockMs = 4_000;

export function azureProbes(link: AzureLink): AzureProbes {
  return {
    createIfAbsent: once(() => withProbe(link, createsIfAbsent)),
    compareAndSet: once(() => withProbe(link, comparesAndSets)),
    checksum: once(async () => {
      if (link.config.checksum === "none") return "none";
      return (await withProbe(link, knowsMd5)) ? "md5" : "none";
    }),
    objectLock: once(() => withProbe(link, keepsLock)),
  };
}

interface Probe {
  link: AzureLink;
  key: string;
  blob: BlockBlobClient;
  /** Gives undefined where the service refused. */
  put(options: BlockBlobUploadOptions): Promise<{ etag?: string; contentMD5?: Uint8Array } | undefined>;
}

async function withProbe<T>(link: AzureLink, work: (probe: Probe) => Promise<T>): Promise<T> {
  const key = `probe/${randomUUID()}`;
  const blob = link.container.getBlockBlobClient(link.prefix + key);
  const put = (options: BlockBlobUploadOptions) =>
    unlessRefused(link.request(`trying ${key}`, undefined, () => blob.upload(content, content.length, options)));
  try {
    return await work({ link, key, blob, put });
  } finally {
    await link.request(`removing ${key}`, undefined, () => blob.deleteIfExists({ deleteSnapshots: "include" }));
  }
}

async function unlessRefused<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isPgkitError(error, "store-denied", "store-unreachable", "repository-missing", "config")) throw error;
    if ([400, 404, 405, 409, 412, 501].includes(answerOf(error)?.status ?? 0)) return undefined;
    throw error;
  }
}

/** Two at the same moment, and a third after them: exactly one may win. */
async function createsIfAbsent({ put }: Probe): Promise<boolean> {
  const create = () => put({ conditions: { ifNoneMatch: "*" } });
  const first = await Promise.all([create(), create()]);
  const third = await create();
  return first.filter((answer) => answer !== undefined).length === 1 && third === undefined;
}

async function comparesAndSets({ put }: Probe): Promise<boolean> {
  const stored = await put({});
  if ((await put({ conditions: { ifMatch: quoted("0x8000000000000000") } })) !== undefined) return false;
  return (await put({ conditions: { ifMatch: stored?.etag ?? "" } })) !== undefined;
}

/** Gives back the MD5 of a blob without having been told it, and refuses a block whose MD5 is another. */
async function knowsMd5({ link, key, blob, put }: Probe): Promise<boolean> {
  const stored = await put({});
  if (!right.equals(asBuffer(stored?.contentMD5 ?? Buffer.alloc(0)))) return false;
  const id = Buffer.from("block").toString("base64");
  const stage = (transactionalContentMD5: Buffer) =>
    link.request(`trying ${key}`, undefined, () =>
      blob.stageBlock(id, content, content.length, { transactionalContentMD5 }),
    );
  return (await unlessRefused(stage(wrong))) === undefined && (await unlessRefused(stage(right))) !== undefined;
}

/** Keeps a blob for some seconds, looks whether it shows that, tries to remove it, and waits until it may be removed. */
async function keepsLock({ link, key, blob, put }: Probe): Promise<boolean> {
  const now = () => link.clock.now().getTime() + link.skewMs();
  const until = new Date(now() + probeLockMs);
  const stored = await put({ immutabilityPolicy: { expiriesOn: until, policyMode: "Unlocked" } });
  if (stored === undefined) return false;
  if ((await rawHead(link, key, undefined))?.immutabilityPolicyExpiresOn === undefined) return false;
  const refused = await link
    .request(`trying to remove ${key}`, undefined, () => blob.delete())
    .then(
      () => false,
      (error: unknown) => {
        if (answerOf(error)?.code === "BlobImmutableDueToPolicy") return true;
        throw error;
      },
    );
  await pause(link.clock, Math.max(0, until.getTime() + 1_500 - now()), undefined);
  return refused;
}
