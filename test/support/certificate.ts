import { execFile } from "node:child_process";
import { chown } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Cluster } from "./cluster.ts";

/** Gives a server a certificate of its own for these names, such as `IP:127.0.0.1`, and the path of it. It is its own authority. */
export async function makeCertificate({ dataDir, runAs }: Cluster, names = "DNS:localhost"): Promise<string> {
  const [key, certificate] = [join(dataDir, "server.key"), join(dataDir, "server.crt")];
  const args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a test"];
  const alternatives = ["-addext", `subjectAltName=${names}`];
  await promisify(execFile)("openssl", [...args, ...alternatives, "-keyout", key, "-out", certificate]);
  if (runAs !== undefined) for (const path of [key, certificate]) await chown(path, runAs.uid, runAs.gid);
  return certificate;
}
