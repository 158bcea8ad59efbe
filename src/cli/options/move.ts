import { option } from "./option.ts";
import * as value from "./values.ts";

/** Flags of `pgkit move`. */
export const moveOptions = {
  to: option(value.text, {
    flag: "--to <instance>",
    doc: "the instance that the database moves to; `dedicated` is also the one that the application names as its own",
  }),
  online: option(value.yesOrNo, {
    flag: "--online",
    default: false,
    doc: "copy by logical replication while the application works, and block its writes only for the end of it; so it is where the database allows it",
  }),
  offline: option(value.yesOrNo, {
    flag: "--offline",
    default: false,
    doc: "block writes for the whole copy; works with every database",
  }),
  maxBlock: option(value.duration, {
    flag: "--max-block <duration>",
    defaultDoc: "`10s`; with --offline no limit",
    doc: "the longest that writes may be blocked: over it the block is lifted and the move stops",
  }),
  withoutReverseFeed: option(value.yesOrNo, {
    flag: "--without-reverse-feed",
    default: false,
    doc: "give up the way back after the switch, where the servers cannot have it",
  }),
  rollbackWindow: option(value.duration, {
    flag: "--rollback-window <duration>",
    default: 86_400_000,
    defaultDoc: "`24h`",
    doc: "how long after the switch `pgkit move finish` asks whether the way back is really not needed",
  }),
  rolloutTimeout: option(value.duration, {
    flag: "--rollout-timeout <duration>",
    defaultDoc: "`switch.secret.rolloutTimeout` of the application",
    doc: "how long what reads a switched Secret may take to become ready at the target",
  }),
  withoutAutoRollback: option(value.yesOrNo, {
    flag: "--without-auto-rollback",
    default: false,
    doc: "stop, rather than go back, where the application does not become ready at the target in that time",
  }),
  backupAge: option(value.duration, {
    flag: "--backup-age <duration>",
    default: 86_400_000,
    defaultDoc: "`24h`",
    doc: "a verified backup of the database that is older does not count: one is taken before the move",
  }),
  switchCommand: option(value.listOf(value.text), {
    flag: "--switch-command <word>",
    default: [],
    doc: "a program that points the application at its database, besides what the file names; words separated by commas",
  }),
  provision: option(value.path, {
    flag: "--provision <file or directory>",
    defaultDoc: "none: the instance is there",
    doc: "apply these Kubernetes manifests of the instance that the database moves to, and wait until it answers, before the move begins",
  }),
  gitopsOut: option(value.path, {
    flag: "--gitops-out <directory>",
    doc: "write what is to be committed for a Secret that ArgoCD, Flux or another manages there, and wait until the cluster shows it",
  }),
  overrideGitops: option(value.yesOrNo, {
    flag: "--override-gitops",
    default: false,
    doc: "change a Secret, or restore a StatefulSet, although something else manages it and may put it back",
  }),
};
