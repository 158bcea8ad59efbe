import { s3Store } from "../../src/store/s3.ts";
import { startS3 } from "../support/s3.ts";
import { conformance } from "./conformance.ts";

const servers = [
  { which: "old", version: "16.2", checksum: "md5" },
  { which: "new", version: "18.2", checksum: "md5" },
  { which: "newest", version: "20.2", checksum: "crc32" },
] as const;

for (const { which, version, checksum } of servers) {
  for (const objectLock of [false, true]) {
    // In a bucket with versions, as object lock needs, none of them keeps a condition between several writers.
    const conditions = { createIfAbsent: !objectLock, compareAndSet: !objectLock };
    conformance(`S3, Ceph ${version}${objectLock ? ", with object lock" : ""}`, () => open(which, objectLock), {
      capabilities: { ...conditions, checksum, objectLock },
      partBytes: 5 * 1024 * 1024,
      retainMs: 6_000,
      // Each is looked at before it is removed where there are versions; pages are the same.
      ...(objectLock ? { keys: 60 } : {}),
    });
  }
}

async function open(which: "old" | "new" | "newest", objectLock: boolean) {
  const server = await startS3(which);
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  const bucket = await server.newBucket({ objectLock });
  const credentials = { accessKeyId, secretAccessKey };
  return { store: s3Store({ bucket, prefix: "some/where", region, endpoint, pathStyle: true, credentials }) };
}
