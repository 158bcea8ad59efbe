import { PgkitError } from "../lib/errors.ts";

/** The recipient (`age1...`) that an age identity opens. Fails with `config`; no error quotes the identity. */
export async function recipientOf(identity: string): Promise<string> {
  const { identityToRecipient } = await import("age-encryption");
  try {
    return await identityToRecipient(identity);
  } catch {
    // The library's error could quote the key, so it does not go on.
    throw new PgkitError("config", "the identity file holds a line that is not an age identity", {
      hint: "it should hold lines that start with AGE-SECRET-KEY-; age-keygen writes such a file",
    });
  }
}
