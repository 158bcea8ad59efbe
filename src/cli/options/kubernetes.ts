import { option } from "./option.ts";
import * as value from "./values.ts";

const key = <const Name extends string>(name: Name) => `kubernetes.${name}` as const;

/** What `pgkit manifests` cannot know from the rest of the configuration. */
export const kubernetesOptions = {
  image: option(value.text, {
    key: key("image"),
    defaultDoc: "none: `pgkit manifests` needs it",
    doc: "the image that pods run, with its tag or digest",
  }),
  imagePullSecrets: option(value.listOf(value.text), {
    key: key("imagePullSecrets"),
    default: [],
    doc: "Secrets by which the image is pulled",
  }),
  namespace: option(value.dnsLabel, {
    key: key("namespace"),
    default: "databases",
    doc: "the namespace that pgkit runs in",
  }),
  createNamespace: option(value.yesOrNo, {
    key: key("createNamespace"),
    default: false,
    doc: "render the namespace too, with the pod security standard `restricted` enforced: for one of pgkit's own",
  }),
  user: option(value.wholeNumber(1, 4_294_967_294), {
    key: key("user"),
    default: 65_532,
    doc: "user and group that pods run as, and that their volumes belong to",
  }),
  secret: option(value.text, {
    key: key("secret"),
    default: "pgkit",
    doc: "the Secret with the variables that passwords and the store's credentials are in, and with key files",
  }),
  scratch: option(value.byteSize, {
    key: key("scratch"),
    default: 1024 ** 3,
    defaultDoc: "`1GiB`",
    doc: "the most that a pod may keep in /scratch",
  }),
  restoreScratch: option(value.byteSize, {
    key: key("restoreScratch"),
    default: 20 * 1024 ** 3,
    defaultDoc: "`20GiB`",
    doc: "the most that `pgkit restore --in-kubernetes` may keep in /scratch: with --to-time the database and the WAL that it recovers",
  }),
  restoreScratchClass: option(value.text, {
    key: key("restoreScratchClass"),
    defaultDoc: "none: it is on the node's own disk",
    doc: "class of a volume of its own for that, which goes with the pod",
  }),
  restoreMemory: option(value.byteSize, {
    key: key("restoreMemory"),
    default: 1024 ** 3,
    defaultDoc: "`1GiB`",
    doc: "the memory that `pgkit restore --in-kubernetes` may take: with --to-time a server runs in its pod",
  }),
  streamVolume: option(value.byteSize, {
    key: key("streamVolume"),
    default: 2 * 1024 ** 3,
    defaultDoc: "`2GiB`",
    doc: "size of the volume of a streamer",
  }),
  storageClass: option(value.text, {
    key: key("storageClass"),
    defaultDoc: "that of the cluster",
    doc: "class of the volumes",
  }),
  repositoryClaim: option(value.text, {
    key: key("repositoryClaim"),
    defaultDoc: "`pgkit-repository`, which is rendered too",
    doc: "the volume claim that a repository in a folder is on",
  }),
  repositorySize: option(value.byteSize, {
    key: key("repositorySize"),
    default: 20 * 1024 ** 3,
    defaultDoc: "`20GiB`",
    doc: "size of the claim that is rendered for a repository in a folder",
  }),
  deadline: option(value.duration, {
    key: key("deadline"),
    default: 12 * 3_600_000,
    defaultDoc: "`12h`",
    doc: "a backup or verification that takes longer is ended",
  }),
  networkPolicies: option(value.yesOrNo, {
    key: key("networkPolicies"),
    default: true,
    doc: "render NetworkPolicies: nothing in, out to DNS, PostgreSQL and the store alone",
  }),
  serviceAccountAnnotations: option(value.text, {
    key: key("serviceAccountAnnotations.*"),
    doc: "an annotation of the ServiceAccounts, such as `eks.amazonaws.com/role-arn`",
  }),
  podLabels: option(value.text, {
    key: key("podLabels.*"),
    doc: "a label of the pods, such as `azure.workload.identity/use`",
  }),
};
