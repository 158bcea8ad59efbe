import { randomBytes } from "node:crypto";
import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from "@aws-sdk/client-s3";
import { serverOfThisRun } from "./servers.ts";

/**
 * A Ceph gateway: `old` is the 16.2 of Debian 12, `new` the 18.2 of Debian 13. Measured on both (16.2.15, 18.2.7):
 * - `If-None-Match: *` on PUT is kept between 16 writers, but in a bucket with versions (so with object lock) ignored:
 *   all 16 win. On CompleteMultipartUpload it is ignored everywhere.
 * - `If-Match` on PUT compares with the ETag *without* its quotes: the quoted one of HEAD always fails with 412. Unquoted
 *   it is kept: of 16 writers one wins, the others get 412 or 500. DELETE ignores it.
 * - No checksum but Content-MD5 (a wrong one: 400 BadDigest) and the ETag is computed; `x-amz-checksum-*` is accepted
 *   even when wrong, not stored and not returned. GetObjectAttributes is unknown (200 with another document).
 * - 16.2 answers 411 to a body with a checksum at its end or of unknown length; 18.2 takes both.
 * - Completing again succeeds; completing after abort is 500; aborting again 404. The ETag of Complete is empty (16.2) or
 *   without quotes (18.2).
 * - Object lock headers are kept on PUT, ignored on CreateMultipartUpload (PutObjectRetention afterwards works), and 400
 *   in a bucket without object lock. A DELETE without version makes a marker; of a locked version it is 403, in
 *   DeleteObjects an entry in Errors.
 * - An unknown storage class is 400 InvalidArgument. `AES256` is ignored by 16.2, 400 by 18.2; `aws:kms` works.
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

/** The S3 server of this test run, started when the first test asks for it and ended with the run. */
export async function startS3(which: "old" | "new"): Promise<S3Server> {
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
