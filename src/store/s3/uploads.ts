import { AbortMultipartUploadCommand, ListMultipartUploadsCommand } from "@aws-sdk/client-s3";
import { isKey } from "../key.ts";
import type { StrayUpload, StrayUploads, UploadsOptions } from "../store.ts";
import { answerOf } from "./errors.ts";
import type { S3Link } from "./link.ts";

/** Uploads in parts under the store's prefix that were neither completed nor aborted. */
export function s3Uploads(link: S3Link): StrayUploads {
  return {
    list: (options = {}) => listUploads(link, options),
    async abort(olderThan, options = {}) {
      let aborted = 0;
      for await (const { key, startedAt, uploadId } of listUploads(link, options)) {
        if (startedAt >= olderThan) continue;
        await abortUpload(link, key, uploadId, options.signal);
        aborted += 1;
      }
      return aborted;
    },
  };
}

interface Upload extends StrayUpload {
  uploadId: string;
}

async function* listUploads(link: S3Link, { prefix = "", signal }: UploadsOptions): AsyncGenerator<Upload> {
  let at: { KeyMarker?: string; UploadIdMarker?: string } = {};
  for (let more = true; more; ) {
    const input = { Bucket: link.bucket, Prefix: link.prefix + prefix, ...at };
    const page = await link.request("listing unfinished uploads", signal, (send) =>
      link.client.send(new ListMultipartUploadsCommand(input), send),
    );
    for (const { Key = "", UploadId, Initiated } of page.Uploads ?? []) {
      const key = Key.slice(link.prefix.length);
      if (!isKey(key) || UploadId === undefined) continue;
      yield { key, startedAt: Initiated ?? new Date(0), uploadId: UploadId };
    }
    const { NextKeyMarker, NextUploadIdMarker } = page;
    more = page.IsTruncated === true && NextKeyMarker !== undefined;
    at = {
      ...(NextKeyMarker === undefined ? {} : { KeyMarker: NextKeyMarker }),
      ...(NextUploadIdMarker === undefined ? {} : { UploadIdMarker: NextUploadIdMarker }),
    };
  }
}

/** Removes the parts stored so far. An upload that is not there any more is no error. */
export async function abortUpload(
  link: S3Link,
  key: string,
  uploadId: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const input = { Bucket: link.bucket, Key: link.prefix + key, UploadId: uploadId };
  try {
    await link.request(`aborting the upload of ${key}`, signal, (send) =>
      link.client.send(new AbortMultipartUploadCommand(input), send),
    );
  } catch (error) {
    if (answerOf(error)?.name !== "NoSuchUpload") throw error;
  }
}
