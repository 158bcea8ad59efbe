import { ListObjectsV2Command, type ListObjectsV2CommandOutput } from "@aws-sdk/client-s3";
import { PgkitError } from "../../lib/errors.ts";
import { throwIfCancelled } from "../cancel.ts";
import { isKey } from "../key.ts";
import type { ListOptions, ObjectInfo } from "../store.ts";
import type { S3Link } from "./link.ts";
import { bareEtag } from "./read.ts";

/** See `ObjectReader.list`. Pages end where the server says so, not where one is short: some servers give short ones. */
export async function* listObjects(
  link: S3Link,
  prefix: string,
  { after, signal }: ListOptions,
): AsyncGenerator<ObjectInfo> {
  let last = after === undefined ? undefined : link.prefix + after;
  let token: string | undefined;
  for (let more = true; more; ) {
    throwIfCancelled(signal);
    const page = await nextPage(link, prefix, last, token, signal);
    link.known.bucket = true;
    const before = last;
    for (const { Key: full = "", Size, ETag, LastModified } of page.Contents ?? []) {
      // A few servers know no start-after, and give the keys before it as well.
      if (after !== undefined && full <= link.prefix + after) continue;
      if (last !== undefined && full <= last) throw disorder(link, last, full);
      last = full;
      const key = full.slice(link.prefix.length);
      // Others may keep what is no key of ours there, such as a "folder" made by a console: `name/`.
      if (!isKey(key)) continue;
      yield { key, bytes: Size ?? 0, etag: bareEtag(ETag), modifiedAt: LastModified ?? new Date(0) };
    }
    token = page.NextContinuationToken;
    more = page.IsTruncated === true;
    if (more && token === undefined && last === before) {
      throw new PgkitError("store-failed", `${link.where} says that its list goes on, but not where`);
    }
  }
}

async function nextPage(
  link: S3Link,
  prefix: string,
  last: string | undefined,
  token: string | undefined,
  signal: AbortSignal | undefined,
): Promise<ListObjectsV2CommandOutput> {
  const from = token !== undefined ? { ContinuationToken: token } : last !== undefined ? { StartAfter: last } : {};
  const input = { Bucket: link.bucket, Prefix: link.prefix + prefix, ...from };
  return await link.request(`listing ${prefix}`, signal, (send) =>
    link.client.send(new ListObjectsV2Command(input), send),
  );
}

function disorder(link: S3Link, last: string, next: string): PgkitError {
  return new PgkitError("store-failed", `${link.where} lists ${next} after ${last}, which is out of order`, {
    hint: "directory buckets and some servers list in no order, and cannot hold a repository",
  });
}
