import {
  CompleteMultipartUploadCommand,
  type CompleteMultipartUploadCommandInput,
  CreateMultipartUploadCommand,
  type CreateMultipartUploadCommandInput,
  UploadPartCommand,
  type UploadPartCommandInput,
} from "@aws-sdk/client-s3";
import type { S3Link } from "./link.ts";
import { putProbe, unlessRefused } from "./probe-put.ts";
import { abortUpload } from "./uploads.ts";
import { conditionHeader, readEncryption, writeSettings } from "./write-input.ts";

/** An upload of one part to try things on; each step gives undefined where the server refused it. */
export interface ProbeUpload {
  part(input: Partial<UploadPartCommandInput>): Promise<{ ETag?: string | undefined } | undefined>;
  complete(
    input: Partial<CompleteMultipartUploadCommandInput>,
  ): Promise<{ ETag?: string | undefined; ChecksumCRC32?: string | undefined } | undefined>;
}

/** Runs `work` on an upload of `key` and aborts it after; undefined where the server refused to begin it. */
export async function withUpload<T>(
  link: S3Link,
  key: string,
  input: Partial<CreateMultipartUploadCommandInput>,
  work: (upload: ProbeUpload) => Promise<T>,
): Promise<T | undefined> {
  const at = { Bucket: link.bucket, Key: link.prefix + key };
  const what = `trying ${key} in parts`;
  const create = new CreateMultipartUploadCommand({ ...at, ...writeSettings(link.config), ...input });
  const begun = await unlessRefused(link.request(what, undefined, (send) => link.client.send(create, send)));
  if (begun?.UploadId === undefined) return undefined;
  const upload = { ...at, UploadId: begun.UploadId, ...readEncryption(link.config) };
  try {
    return await work({
      part: async (extra) => {
        const part = new UploadPartCommand({ ...upload, PartNumber: 1, Body: Buffer.from(key), ...extra });
        return await unlessRefused(link.request(what, undefined, (send) => link.client.send(part, send)));
      },
      complete: async (extra) => {
        const complete = new CompleteMultipartUploadCommand({ ...upload, ...extra });
        return await unlessRefused(link.request(what, undefined, (send) => link.client.send(complete, send)));
      },
    });
  } finally {
    await abortUpload(link, key, begun.UploadId, undefined);
  }
}

/** Completes an upload onto an object that is there: the server must refuse. */
export async function completesIfAbsent(link: S3Link, key: string): Promise<boolean> {
  await putProbe(link, key, {});
  const kept = await withUpload(link, key, {}, async (upload) => {
    const part = await upload.part({});
    const parts = { MultipartUpload: { Parts: [{ PartNumber: 1, ETag: part?.ETag }] } };
    return part !== undefined && (await upload.complete({ ...parts, ...conditionHeader("absent") })) === undefined;
  });
  return kept === true;
}
