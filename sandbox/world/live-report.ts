/** Asks everything that runs what `status` shows, from the host. */
import { existsSync } from "node:fs";
import { type Fault as AwsFault, awsControl } from "../aws/control";
import { networkControl } from "../network/control";
import { targetText } from "../network/faults";
import { hostKubeconfig } from "./access";
import type { WorldStatus } from "./control";
import { isReady, type KubeNode, type KubePod, kubeGet } from "./kube";
import { regions, type WorldRegion, witnessRegion } from "./regions";
import type { ClusterReport, WorldReport } from "./report";

/** Gathers the report. What cannot be asked is named in it; nothing is thrown. */
export async function gatherReport(status: WorldStatus): Promise<WorldReport> {
  const report: WorldReport = { clusters: [], loadBalancers: [], replication: [], faults: [], unanswered: {} };
  const ask = async (name: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      report.unanswered[name] = error instanceof Error ? error.message : String(error);
    }
  };
  const runs = (region: WorldRegion): boolean =>
    region !== witnessRegion || status.parts.some((part) => part.group === "witness" && part.state === "ready");
  const present = [...regions, witnessRegion].filter(runs);
  await Promise.all([
    Promise.all(present.map(clusterReport)).then((clusters) => {
      report.clusters = clusters;
    }),
    ask("the network", () => addNetwork(report)),
    ask("the AWS gateway", () => addAws(report)),
  ]);
  return report;
}

async function clusterReport(region: WorldRegion): Promise<ClusterReport> {
  const kubeconfig = hostKubeconfig(region.name);
  if (!existsSync(kubeconfig)) return { region: region.name, error: `${kubeconfig} is missing` };
  try {
    const [nodes, pods] = await Promise.all([
      kubeGet<{ items: KubeNode[] }>(kubeconfig, "/api/v1/nodes"),
      kubeGet<{ items: KubePod[] }>(kubeconfig, "/api/v1/pods"),
    ]);
    return {
      region: region.name,
      nodes: nodes.items.map((node) => ({
        name: node.metadata.name,
        zone: node.metadata.labels?.["topology.kubernetes.io/zone"] ?? "",
        ready: isReady(node),
        unschedulable: node.spec?.unschedulable ?? false,
        pods: pods.items.filter((pod) => pod.spec?.nodeName === node.metadata.name && pod.status?.phase === "Running")
          .length,
      })),
    };
  } catch (error) {
    return { region: region.name, error: error instanceof Error ? error.message : String(error) };
  }
}

async function addNetwork(report: WorldReport): Promise<void> {
  const { loadBalancers, faults } = await networkControl.status();
  report.loadBalancers = loadBalancers.map((lb) => {
    const targets = lb.ports.flatMap((port) => port.targets).filter((target) => target.health !== "unused");
    return {
      region: lb.region,
      name: lb.name,
      hostname: lb.dnsName,
      zone: lb.addresses.map((address) => address.zone).join(", "),
      address: lb.addresses.map((address) => address.ip).join(", "),
      targets: targets.length,
      healthyTargets: targets.filter((target) => target.health === "healthy").length,
    };
  });
  for (const cut of faults.cuts) {
    report.faults.push({ what: `${targetText(cut)} is cut (${cut.mode})`, heal: "npm run sandbox -- fault heal" });
  }
  for (const { between, ms } of faults.latencies) {
    const [a, b] = between;
    report.faults.push({
      what: `${ms} ms of latency each way between ${a} and ${b}`,
      heal: `npm run sandbox -- fault latency ${a} ${b} 0`,
    });
  }
}

async function addAws(report: WorldReport): Promise<void> {
  const aws = awsControl();
  const [copier, faults] = await Promise.all([aws.copier(), aws.faults()]);
  report.replication = copier.rules.map((rule) => ({
    source: rule.sourceBucket,
    destination: rule.destinationBucket,
    pending: rule.operationsPendingReplication,
    failed: rule.operationsFailedReplication,
    lagSeconds: rule.replicationLatency,
  }));
  const { paused, delayMs, bytesPerSecond, hold } = copier.settings;
  const how = [
    paused && "paused",
    delayMs > 0 && `late by ${delayMs} ms`,
    bytesPerSecond !== null && `limited to ${bytesPerSecond} bytes a second`,
    hold.length > 0 && `holding back ${hold.join(", ")}`,
  ].filter(Boolean);
  if (how.length > 0) {
    report.faults.push({ what: `S3 replication is ${how.join(", ")}`, heal: "npm run sandbox -- fault copier resume" });
  }
  for (const fault of faults) {
    report.faults.push({
      what: `${awsFaultText(fault)}, met ${fault.hits} calls${fault.until ? `, until ${fault.until}` : ""}`,
      heal: `npm run sandbox -- fault unfault ${fault.id}`,
    });
  }
}

/** A fault of the AWS APIs in words. Pure. */
export function awsFaultText(fault: AwsFault): string {
  const { service, action, effect, delayMs, region, caller, resource, probability } = fault;
  const does = { fail: "fail", throttle: "are throttled", hang: "hang", delay: `are ${delayMs} ms late` }[effect];
  const which = [
    region && `in ${region}`,
    caller && `by ${caller}`,
    resource && `on ${resource}`,
    probability !== undefined && `${Math.round(probability * 100)} % of them`,
  ].filter(Boolean);
  return [`calls of ${service ?? "all AWS services"}${action ? `:${action}` : ""} ${does}`, ...which].join(", ");
}
