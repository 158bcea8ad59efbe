import { type ErrorCode, errorCodes } from "../lib/errors.ts";

/** One line of `pgkit check`. */
export interface Finding {
  /** What it is about: `instance shared`, `database shared/litellm`, `repository s3://...`, `this machine`. */
  subject: string;
  /** Which check it was, such as `privileges`; `docs/check.md` lists them. */
  check: string;
  /** `error`: a backup or a restore would fail. `warning`: something will be missing, or is about to go wrong. */
  level: "ok" | "warning" | "error";
  message: string;
  /** What to do about it; statements can be pasted as they are. */
  remedy?: string;
  /** Of an error: decides the exit status. */
  code?: ErrorCode;
}

/** 0 when there is no error, else the exit status that the contract has for the first one. */
export function exitStatusOf(findings: readonly Finding[]): number {
  const first = findings.find(({ level }) => level === "error");
  return first === undefined ? 0 : errorCodes[first.code ?? "check-failed"].exit;
}
