import { randomBytes } from "node:crypto";
import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from "@aws-sdk/client-s3";
import { serverOfThisRun } from "./servers.ts";

/** A Ceph gateway: `old` is the 16.2 of Debian 12, `new` the 18.2 of Debian 13. */
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
