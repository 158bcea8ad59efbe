import { option, type ValuesOf } from "./option.ts";
import * as value from "./values.ts";

/** Flags of single commands; a command lists the names of those that it takes. */
export const commandOptions = {
  dryRun: option(value.yesOrNo, {
    flag: "-n, --dry-run",
    default: false,
    doc: "print what would be done and change nothing",
  }),
  backup: option(value.text, {
    flag: "--backup <id>",
    defaultDoc: "the newest of the database",
    doc: "the backup to take",
  }),
  as: option(value.text, { flag: "--as <name>", defaultDoc: "the database's own", doc: "the name to restore under" }),
  replace: option(value.yesOrNo, {
    flag: "--replace",
    default: false,
    doc: "put the restored database in the place of the live one, which is kept under another name",
  }),
  toInstance: option(value.text, {
    flag: "--to-instance <name>",
    defaultDoc: "the one that was backed up",
    doc: "the instance to restore into",
  }),
  table: option(value.listOf(value.text), {
    flag: "--table <table>",
    default: [],
    doc: "only this table (several times for several): back into the live database, or by --as into a new one",
  }),
  schemaOnly: option(value.yesOrNo, { flag: "--schema-only", default: false, doc: "everything but the rows" }),
  updateRoles: option(value.yesOrNo, {
    flag: "--update-roles",
    default: false,
    doc: "give roles that exist the attributes, settings and passwords of the backup",
  }),
  jobs: option(value.wholeNumber(1, 64), {
    flag: "-j, --jobs <number>",
    defaultDoc: "`jobs` of the instance",
    doc: "parallel jobs inside one big database",
  }),
  deep: option(value.yesOrNo, {
    flag: "--deep",
    default: false,
    doc: "restore into a scratch server on this machine and compare",
  }),
  yes: option(value.yesOrNo, {
    flag: "-y, --yes",
    default: false,
    doc: "do not ask before something is destroyed",
  }),
  singleWriter: option(value.yesOrNo, {
    flag: "--single-writer",
    default: false,
    doc: "no other pgkit works on the repository; needed to prune where the store ignores conditional writes",
  }),
  until: option(value.text, {
    flag: "--until <time>",
    doc: "keep the backup until then: a time such as 2027-01-31 or +90d",
  }),
  forever: option(value.yesOrNo, { flag: "--forever", default: false, doc: "keep the backup until it is released" }),
  release: option(value.yesOrNo, { flag: "--release", default: false, doc: "let retention decide again" }),
  reason: option(value.text, { flag: "--reason <text>", doc: "why, for those who find the pin later" }),
};

export type CommandFlags = ValuesOf<typeof commandOptions>;
