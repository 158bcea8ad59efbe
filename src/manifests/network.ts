import { isIP } from "node:net";
import { has, kindsIn, ownLabels } from "./names.ts";
import { asksApi } from "./pod.ts";
import { type Address, type JobKind, type Manifest, type ManifestsRequest, needs } from "./request.ts";

/** Nothing comes in; out goes what each kind of job needs: names, the store, servers, and the API where a password is there. */
export function networkPolicies(request: ManifestsRequest): Manifest[] {
  const kinds = kindsIn(request);
  if (!request.networkPolicies || kinds.length === 0) return [];
  const withServer = kinds.filter((kind) => needs[kind].server);
  const withApi = kinds.filter((kind) =>
    request.instances.some((instance) => has(instance, kind) && asksApi(kind, instance)),
  );
  const servers = unique(request.instances.flatMap((instance) => instance.servers));
  const serverRules = servers.flatMap((address) => ruleTo(address, request.namespace, "server"));
  const storeRules = unique(request.stores).flatMap((address) => ruleTo(address, request.namespace, "store"));
  return [
    policy(request, "pgkit", [], [...dns, ...uniqueRules(storeRules)]),
    ...(withServer.length === 0 ? [] : [policy(request, "pgkit-server", withServer, uniqueRules(serverRules))]),
    ...(withApi.length === 0 ? [] : [policy(request, "pgkit-api", withApi, [{ ports: tcp(443, 6443) }])]),
  ];
}

/** On whatever address: a cache of the node has one of its own. */
const dns = [
  {
    ports: [
      { protocol: "UDP", port: 53 },
      { protocol: "TCP", port: 53 },
    ],
  },
];

/** Of all Pods of pgkit where no kind is named. */
function policy(
  { namespace }: ManifestsRequest,
  name: string,
  kinds: readonly JobKind[],
  egress: readonly object[],
): Manifest {
  const component = { key: "app.kubernetes.io/component", operator: "In", values: kinds };
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace, labels: ownLabels },
    spec: {
      podSelector: {
        matchLabels: { "app.kubernetes.io/name": "pgkit" },
        ...(kinds.length === 0 ? {} : { matchExpressions: [component] }),
      },
      policyTypes: ["Ingress", "Egress"],
      egress,
    },
  };
}

/**
 * A policy holds for the Pods behind a Service, whose ports may be others than the Service's, and knows no names of hosts:
 * what is in the cluster is chosen by its namespace, anything else by its port.
 */
function ruleTo({ host, port }: Address, home: string, what: "server" | "store"): object[] {
  const family = isIP(host);
  if (family !== 0) return [{ to: [{ ipBlock: { cidr: `${host}/${family === 4 ? 32 : 128}` } }], ports: tcp(port) }];
  const namespace = namespaceOf(host, home);
  const inside = { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } } };
  if (namespace === undefined) return [{ ports: tcp(port) }];
  if (what === "server") return [{ to: [inside], ports: port === 5432 ? tcp(port) : tcp(port, 5432) }];
  // `rgw.example` may as well be a host of the network.
  return host.split(".").length === 2 ? [{ to: [inside] }, { ports: tcp(port) }] : [{ to: [inside] }];
}

/** `name`, `name.namespace` and `name.namespace.svc...`; `undefined` for hosts elsewhere. */
function namespaceOf(host: string, home: string): string | undefined {
  const [, namespace, svc, ...rest] = host.replace(/\.$/, "").split(".");
  if (namespace === undefined) return home;
  return svc === undefined || (svc === "svc" && rest.length !== 1) ? namespace : undefined;
}

function tcp(...ports: number[]): object[] {
  return ports.map((port) => ({ protocol: "TCP", port }));
}

function unique(addresses: readonly Address[]): Address[] {
  const byText = new Map(addresses.map((address) => [`${address.host}:${address.port}`, address]));
  return [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, address]) => address);
}

function uniqueRules(rules: readonly object[]): object[] {
  return [...new Map(rules.map((rule) => [JSON.stringify(rule), rule])).values()];
}
