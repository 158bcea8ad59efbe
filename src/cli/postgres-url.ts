import type { Secret, SecretVault } from "../lib/secret.ts";

/** A URL without its password, and the password where it had one; the vault knows it from now on. */
export function splitPassword(given: string, vault: SecretVault): { url: string; password: Secret | undefined } {
  const { url, escaped } = withoutPassword(given);
  if (escaped === undefined) return { url, password: undefined };
  // The form in the URL may be escaped in another way than the vault would escape it.
  vault.keep(escaped);
  return { url, password: vault.keep(decodeURIComponent(escaped)) };
}

/**
 * The URL without the password in front of the host or among the parameters, and that password, still escaped. No use
 * of `URL`: libpq's have several hosts, or none and yet a user.
 */
export function withoutPassword(given: string): { url: string; escaped: string | undefined } {
  const [, scheme = "", user = "", inFront, rest = ""] =
    /^([^:]*:\/\/)([^:@/?]*)(?::([^@/?]*))?(@.*)$/.exec(given) ?? [];
  const url = scheme === "" ? given : `${scheme}${user}${rest}`;
  const [before = "", ...queries] = url.split("?");
  const parameters = queries
    .join("?")
    .split("&")
    .filter((parameter) => parameter !== "");
  const kept = parameters.filter((parameter) => !parameter.startsWith("password="));
  const asParameter = parameters.find((parameter) => parameter.startsWith("password="))?.slice("password=".length);
  const escaped = inFront === undefined || inFront === "" ? asParameter : inFront;
  return { url: kept.length === 0 ? before : `${before}?${kept.join("&")}`, escaped: escaped || undefined };
}
