import { stat } from "node:fs/promises";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { collect } from "../../lib/streams.ts";
import { decryptAge, encryptAge } from "../../repo/age.ts";
import { recipientOf } from "../../repo/age-keys.ts";
import type { Found, Ledger } from "../ledger.ts";
import type { RepositoryUnderCheck } from "./repository.ts";

/** Gives the recipients whose backups the identity file opens; `undefined` where there is none, or it cannot be used. */
export async function checkEncryption(
  ledger: Ledger,
  { url, encryption, identities }: RepositoryUnderCheck,
): Promise<readonly string[] | undefined> {
  const { recipients, identityFile } = encryption;
  const sealed = await ledger.run("encryption", (found) => recipientsOf(found, url, recipients));
  if (identityFile === undefined) {
    if (recipients.length > 0) {
      await ledger.run("identity", async (found) =>
        found.ok("no identity file here, and none is needed to back up; verify and restore need it"),
      );
    }
    return undefined;
  }
  return ledger.run("identity", async (found) => {
    const keys = await identities();
    const opened = await Promise.all(keys.map(recipientOf));
    if (sealed !== undefined) await assertOpens(sealed, keys, opened);
    await tellMode(found, identityFile);
    return opened;
  });
}

const probe = Buffer.from("a probe of pgkit check\n");

/** Gives a probe that is encrypted to all of them, `undefined` where there are none. */
async function recipientsOf(found: Found, url: string, recipients: readonly string[]): Promise<Buffer | undefined> {
  if (recipients.length === 0) {
    if (url.startsWith("file:")) found.ok("backups are not encrypted, and stay on this machine's file systems");
    else {
      found.warning(
        "backups are not encrypted: whoever may read the store reads all data and the roles' password verifiers",
        "age-keygen -o age.key, keep that file elsewhere, and name its public key in encryption.recipients",
      );
    }
    return undefined;
  }
  const sealed = await collect(encryptAge(once(probe), recipients));
  found.ok(`backups are encrypted to ${recipients.length} recipient(s): ${recipients.map(short).join(", ")}`);
  return sealed;
}

/** Fails with `identity-wrong` when none of the keys opens what is encrypted to the recipients. */
async function assertOpens(sealed: Buffer, keys: readonly string[], opened: readonly string[]): Promise<void> {
  try {
    await collect(decryptAge(once(sealed), keys, "a probe"));
  } catch (cause) {
    if (!isPgkitError(cause, "identity-wrong")) throw cause;
    const message = `the identity file is that of ${opened.map(short).join(", ")}, which is none of encryption.recipients`;
    const hint =
      "name the identity file that belongs to one of them, or add its own recipient to encryption.recipients";
    throw new PgkitError("identity-wrong", message, { hint, cause });
  }
}

async function tellMode(found: Found, path: string): Promise<void> {
  const bits = (await stat(path)).mode & 0o777;
  if ((bits & 0o077) === 0) return found.ok(`${path} opens what is stored, and only its owner may read it`);
  found.warning(`others may read the private key in ${path} (mode ${bits.toString(8)})`, `chmod 600 ${path}`);
}

/** Enough of a recipient to know it by. */
export function short(recipient: string): string {
  return recipient.length > 24 ? `${recipient.slice(0, 12)}...${recipient.slice(-6)}` : recipient;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
