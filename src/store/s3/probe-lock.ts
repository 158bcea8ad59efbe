import { DeleteObjectCommand, GetObjectLockConfigurationCommand } from "@aws-sdk/client-s3";
import { isPgkitError } from "../../lib/errors.ts";
import { pause } from "../cancel.ts";
import { sumOf } from "./checksum.ts";
import { answerOf } from "./errors.ts";
import type { S3Link } from "./link.ts";
import { isRefusal, putProbe } from "./probe-put.ts";
import { rawHead } from "./read.ts";
import { lockSettings } from "./write-input.ts";

const probeLockMs = 4_000;

/** True when the bucket says so, or does not let us ask. */
export async function hasLocks(link: S3Link): Promise<boolean> {
  try {
    const answer = await link.request("asking for object lock", undefined, (send) =>
      link.client.send(new GetObjectLockConfigurationCommand({ Bucket: link.bucket }), send),
    );
    return answer.ObjectLockConfiguration?.ObjectLockEnabled === "Enabled";
  } catch (error) {
    // Who may write need not be allowed to ask; whether a lock is kept is seen at each object.
    if (answerOf(error)?.name === "AccessDenied") return true;
    if (isRefusal(error)) return false;
    throw error;
  }
}

/** Locks a few bytes for some seconds, looks whether they show it, tries to remove them, and waits the lock out. */
export async function keepsLock(link: S3Link, key: string): Promise<boolean> {
  const now = () => link.clock.now().getTime() + link.skewMs();
  const until = new Date(now() + probeLockMs);
  const stored = await putProbe(link, key, {
    ...sumOf("md5", Buffer.from(key)).header,
    ...lockSettings(link.config, until),
  });
  if (stored === undefined) return false;
  const found = await rawHead(link, key, undefined);
  if (found?.ObjectLockRetainUntilDate === undefined) return false;
  const kept = await refusesToRemove(link, key, found.VersionId);
  await pause(link.clock, Math.max(0, until.getTime() + 1_500 - now()), undefined);
  return kept;
}

async function refusesToRemove(link: S3Link, key: string, version: string | undefined): Promise<boolean> {
  const target = {
    Bucket: link.bucket,
    Key: link.prefix + key,
    ...(version === undefined ? {} : { VersionId: version }),
  };
  try {
    await link.request(`trying to remove ${key}`, undefined, (send) =>
      link.client.send(new DeleteObjectCommand(target), send),
    );
    return false;
  } catch (error) {
    if (isPgkitError(error, "store-denied") || isRefusal(error)) return true;
    throw error;
  }
}
