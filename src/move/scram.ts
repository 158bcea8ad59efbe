import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from "node:crypto";

/**
 * The verifier that PostgreSQL keeps in the place of a password: `SCRAM-SHA-256$4096:SALT$STORED:SERVER`, RFC 5803. Given to
 * `PASSWORD` in its place, so that the password is in no statement, and in no server's log.
 */
export function scramVerifier(password: string, salt: Uint8Array = randomBytes(16), iterations = 4096): string {
  const key = pbkdf2Sync(prepared(password), salt, iterations, 32, "sha256");
  const stored = createHash("sha256").update(hmac(key, "Client Key")).digest("base64");
  const server = hmac(key, "Server Key").toString("base64");
  return `SCRAM-SHA-256$${iterations}:${Buffer.from(salt).toString("base64")}$${stored}:${server}`;
}

/** True where this is the password that `verifier` of `user` stands for; also of the older form `md5...`. */
export function isPasswordOf(verifier: string, user: string, password: string): boolean {
  const [, iterations, salt] = /^SCRAM-SHA-256\$(\d+):([^$]+)\$/.exec(verifier) ?? [];
  if (iterations !== undefined && salt !== undefined) {
    return same(verifier, scramVerifier(password, Buffer.from(salt, "base64"), Number(iterations)));
  }
  return same(verifier, `md5${createHash("md5").update(`${password}${user}`).digest("hex")}`);
}

/** SASLprep, as far as it changes what passwords hold: PostgreSQL too takes what cannot be prepared as it is. */
function prepared(password: string): string {
  return password.normalize("NFKC");
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function same(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}
