import { randomBytes } from "node:crypto";
import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from "@aws-sdk/client-s3";
import { serverOfThisRun } from "./servers.ts";

/**
 * A Ceph gateway: `old` is the 16.2 of Debian 12, `new` the 18.2 of Debian 13, `newest` the 20.2 of Debian testing.
 * Measured on 16.2.15, 18.2.7 and 20.2.4:
 * - `If-None-Match: *` on PUT is kept between 16 writers, but in a bucket with versions (so with object lock) ignored by
 *   all three: all 16 win. On CompleteMultipartUpload only 20.2 keeps it (and then the upload must still be aborted).
 * - `If-Match` on PUT: 16.2 and 18.2 compare it with the ETag *without* its quotes: the quoted one of HEAD always fails
 *   with 412. Unquoted it is kept: of 16 writers one wins, the others get 412 or 500. 20.2 takes both, and the losers
 *   get 409; a missing key is 404. On DELETE only 20.2 keeps it.
 * - Checksums: all three refuse a wrong Content-MD5 (400 BadDigest). `x-amz-checksum-*` is accepted by 16.2 and 18.2 even
 *   when wrong, not stored and not returned; 20.2 does the same unless `x-amz-sdk-checksum-algorithm` goes with it: then
 *   it stores and returns it, also of a whole multipart object.
 * - 16.2 answers 411 to a body with a checksum at its end or of unknown length; the others take both.
 * - Completing again succeeds; completing after abort is 500; aborting again 404. The ETag of Complete is empty (16.2) or
 *   without quotes (18.2).
 * - Object lock headers are kept on PUT; on CreateMultipartUpload only by 20.2 (PutObjectRetention afterwards works with
 *   all); 400 in a bucket without object lock. A DELETE without version makes a marker; of a locked version it is 403, in
 *   DeleteObjects an entry in Errors.
 * - The storage class STANDARD_IA is there, an unknown one is 400 InvalidArgument. `AES256` is ignored by 16.2, 400 by the
 *   others; `aws:kms` works.
 */
export interface S3Server {
  version: string;
  /** Plain HTTP on 127.0.0.1. */
  endpoint: string;
  /** TLS under the name localhost, by a certificate that only `caFile` vouches for. */
  tlsEndpoint: string;
  /** The same server under a name that its certificate does not hold. */
  wrongNameEndpoint: string;
  caFile: string;
  region: string;
  accessKeyId: string;
  secretAccessKey: string;
  /** Credentials that are right, of a user without any right on others' buckets. */
  denied: { accessKeyId: string; secretAccessKey: string };
  /** A key for `aws:kms` server-side encryption. */
  kmsKeyId: string;
  /** A client of the bucket's owner, for what a test does behind pgkit's back; one a server. */
  client: S3Client;
  /** Makes an empty bucket with a name of its own. Object lock brings versions with it. */
  newBucket(options?: { objectLock?: boolean; versioning?: boolean }): Promise<string>;
}

/** An S3 server of this test run, started when the first test asks for it and ended with the run. */
export async function startS3(which: "old" | "new" | "newest"): Promise<S3Server> {
  const facts = await serverOfThisRun<Omit<S3Server, "client" | "newBucket">>(`/s3/${which}`);
  const { endpoint, region, accessKeyId, secretAccessKey } = facts;
  const client = new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    // The old one answers 411 to a body with a checksum at its end.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  });
  const newBucket: S3Server["newBucket"] = async ({ objectLock, versioning } = {}) => {
    const Bucket = `test-${randomBytes(6).toString("hex")}`;
    await client.send(new CreateBucketCommand({ Bucket, ...(objectLock && { ObjectLockEnabledForBucket: true }) }));
    if (versioning) {
      const VersioningConfiguration = { Status: "Enabled" as const };
      await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }));
    }
    return Bucket;
  };
  return { ...facts, client, newBucket };
}
