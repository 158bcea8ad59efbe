import { isUtf8 } from "node:buffer";
import { PgkitError } from "../lib/errors.ts";
import { type Kube, nameOf } from "./kube.ts";
import type { Secret } from "./workloads.ts";

/** A key of a Secret. */
export interface SecretKey {
  readonly namespace: string;
  readonly name: string;
  readonly key: string;
}

/**
 * The text of a key of a Secret, without a line end that was put there by `echo`. Fails with `kube-missing` where there is no
 * such Secret or key, with `kube-failed` where its value is empty or no text.
 */
export async function readSecretText(kube: Kube, { key, ...where }: SecretKey, signal: AbortSignal): Promise<string> {
  const ref = { apiVersion: "v1", kind: "Secret", ...where };
  const found = await kube.get<Secret>(ref, signal);
  if (found === undefined) {
    throw new PgkitError("kube-missing", `there is no ${nameOf(ref)} in ${kube.where}`, {
      hint: `is its name spelled right, and its namespace? kubectl -n ${where.namespace} get secrets`,
    });
  }
  return textOfKey(found, key);
}

/** See `readSecretText`; of a Secret that was read. */
export function textOfKey({ kind, metadata, data = {} }: Secret, key: string): string {
  const what = `the key ${key} of ${nameOf({ kind, ...metadata })}`;
  const value = data[key];
  if (value === undefined) {
    const keys = Object.keys(data);
    throw new PgkitError("kube-missing", `${what} is not there`, {
      hint: keys.length === 0 ? "the Secret is empty" : `it has: ${keys.join(", ")}`,
    });
  }
  if (!/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(value)) {
    throw new PgkitError("kube-failed", `${what} is not base64`, { hint: "store the text by stringData" });
  }
  const bytes = Buffer.from(value, "base64");
  const text = isUtf8(bytes) ? bytes.toString("utf8").replace(/\r?\n$/, "") : "";
  // A password of bytes that are no text is nearly always base64 that was encoded once more, or a file by mistake.
  if (text.includes("\0") || (text === "" && bytes.length > 2) || !isUtf8(bytes)) {
    throw new PgkitError("kube-failed", `${what} is no text: it holds ${bytes.length} bytes that are not UTF-8`, {
      hint: "store the text itself by stringData, or base64 of it by data",
    });
  }
  if (text !== "") return text;
  throw new PgkitError("kube-failed", `${what} is empty`, { hint: "store the text in it" });
}
