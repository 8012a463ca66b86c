/**
 * What a Service of class `service.k8s.aws/nlb` asks for: its annotations read and checked as the AWS Load Balancer
 * Controller does, before anything is looked up in AWS. Pure.
 *
 * Unlike the real controller, which stops at the first fault, all faults are given at once, and an annotation that the
 * real controller would ignore silently (a typing error, most often) gives a warning.
 */
import { createHash } from "node:crypto";
import type { V1Service } from "@kubernetes/client-node";

/** The class that the controller serves, on Services of type LoadBalancer. */
export const loadBalancerClass = "service.k8s.aws/nlb";

/** Keeps a Service until its load balancer is gone from AWS. */
export const finalizer = "service.k8s.aws/resources";

const prefix = "service.beta.kubernetes.io/";

/** One port of the Service: a listener and a target group of the load balancer. */
export interface ListenerPlan {
  port: number;
  /** The Service's NodePort; undefined when the API server was told to allocate none. */
  nodePort?: number;
  /** The pods' port, by number or name. */
  targetPort: number | string;
  /** Name of the port in the Service; empty when it has none. */
  name: string;
}

/** Health check of the target groups. */
export interface HealthCheckPlan {
  protocol: "TCP" | "HTTP";
  port: "traffic-port" | number;
  path?: string;
  /** Codes that count as success for HTTP, e.g. `200-399`. */
  successCodes?: string;
  intervalSeconds: number;
  timeoutSeconds: number;
  healthyThreshold: number;
  unhealthyThreshold: number;
}

/** What the Service asks for, with references to AWS objects not yet looked up. */
export interface LoadBalancerPlan {
  /** Used when the load balancer is created, never later. */
  name: string;
  scheme: "internal" | "internet-facing";
  /** Ids or Name tags; undefined when subnets are to be discovered by their role tags. */
  subnets?: string[];
  /** Ids or Name tags; `managed` when the controller is to make one itself, `none` when there is to be none. */
  securityGroups: string[] | "managed" | "none";
  targetType: "instance" | "ip";
  /** Labels that a node must have to become a target; instance targets only. */
  targetNodeLabels: Record<string, string>;
  healthCheck: HealthCheckPlan;
  targetGroupAttributes: Record<string, string>;
  loadBalancerAttributes: Record<string, string>;
  tags: Record<string, string>;
  listeners: ListenerPlan[];
}

/** Result of reading a Service. Without faults there is a plan. */
interface PlanReading {
  plan?: LoadBalancerPlan;
  /** Found by the controller itself: an Event `FailedBuildModel`. */
  faults: string[];
  /** Things that have no effect. */
  warnings: string[];
}

/** Annotations (without prefix) that the stand-in obeys. */
const obeyed = new Set([
  "aws-load-balancer-type",
  "aws-load-balancer-nlb-target-type",
  "aws-load-balancer-name",
  "aws-load-balancer-internal",
  "aws-load-balancer-scheme",
  "aws-load-balancer-subnets",
  "aws-load-balancer-security-groups",
  "aws-load-balancer-manage-backend-security-group-rules",
  "aws-load-balancer-disable-nlb-sg",
  "aws-load-balancer-target-node-labels",
  "aws-load-balancer-target-group-attributes",
  "aws-load-balancer-attributes",
  "aws-load-balancer-additional-resource-tags",
  "aws-load-balancer-cross-zone-load-balancing-enabled",
  "aws-load-balancer-ip-address-type",
  "aws-load-balancer-healthcheck-protocol",
  "aws-load-balancer-healthcheck-port",
  "aws-load-balancer-healthcheck-path",
  "aws-load-balancer-healthcheck-success-codes",
  "aws-load-balancer-healthcheck-interval",
  "aws-load-balancer-healthcheck-timeout",
  "aws-load-balancer-healthcheck-healthy-threshold",
  "aws-load-balancer-healthcheck-unhealthy-threshold",
]);

/** Annotations that the real controller obeys and that would change how traffic flows: refused, rather than ignored. */
const notOffered = new Set([
  "aws-load-balancer-proxy-protocol",
  "aws-load-balancer-proxy-protocol-per-target-group",
  "aws-load-balancer-ssl-cert",
  "aws-load-balancer-ssl-ports",
  "aws-load-balancer-ssl-negotiation-policy",
  "aws-load-balancer-alpn-policy",
  "aws-load-balancer-backend-protocol",
  "aws-load-balancer-eip-allocations",
  "aws-load-balancer-private-ipv4-addresses",
  "aws-load-balancer-ipv6-addresses",
  "aws-load-balancer-multi-cluster-target-group",
  "aws-load-balancer-enable-tcp-udp-listener",
  "aws-load-balancer-enable-prefix-for-ipv6-source-nat",
  "aws-load-balancer-source-nat-ipv6-prefixes",
]);

/** Annotations that the real controller obeys and that change nothing that could be seen here: accepted. */
const withoutEffectHere = new Set([
  "aws-load-balancer-access-log-enabled",
  "aws-load-balancer-access-log-s3-bucket-name",
  "aws-load-balancer-access-log-s3-bucket-prefix",
  "aws-load-balancer-inbound-sg-rules-on-private-link-traffic",
  "aws-load-balancer-security-group-prefix-lists",
  "aws-load-balancer-minimum-load-balancer-capacity",
  "aws-load-balancer-enable-icmp-for-path-mtu-discovery",
]);

const targetGroupAttributeChecks: Record<string, (value: string) => boolean> = {
  "deregistration_delay.timeout_seconds": (v) => isInteger(v, 0, 3600),
  "deregistration_delay.connection_termination.enabled": isBoolean,
  "preserve_client_ip.enabled": isBoolean,
  "proxy_protocol_v2.enabled": (v) => v === "false",
  "stickiness.enabled": isBoolean,
  "stickiness.type": (v) => v === "source_ip",
  "load_balancing.cross_zone.enabled": (v) => isBoolean(v) || v === "use_load_balancer_configuration",
  "target_health_state.unhealthy.connection_termination.enabled": isBoolean,
  "target_health_state.unhealthy.draining_interval_seconds": (v) => isInteger(v, 0, 360000),
  "target_group_health.dns_failover.minimum_healthy_targets.count": (v) => v === "off" || isInteger(v, 1, 10000),
  "target_group_health.dns_failover.minimum_healthy_targets.percentage": (v) => v === "off" || isInteger(v, 1, 100),
  "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": (v) => isInteger(v, 1, 10000),
  "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": (v) =>
    v === "off" || isInteger(v, 1, 100),
};

const loadBalancerAttributeChecks: Record<string, (value: string) => boolean> = {
  "deletion_protection.enabled": isBoolean,
  "load_balancing.cross_zone.enabled": isBoolean,
  "access_logs.s3.enabled": isBoolean,
  "access_logs.s3.bucket": () => true,
  "access_logs.s3.prefix": () => true,
  "ipv6.deny_all_igw_traffic": isBoolean,
  "zonal_shift.config.enabled": isBoolean,
  "dns_record.client_routing_policy": (v) =>
    ["any_availability_zone", "availability_zone_affinity", "partial_availability_zone_affinity"].includes(v),
};

function isBoolean(value: string): boolean {
  return value === "true" || value === "false";
}

function isInteger(value: string, least: number, most: number): boolean {
  return /^\d+$/.test(value) && Number(value) >= least && Number(value) <= most;
}

/** Says whether the controller serves this Service. */
export function isServed(service: V1Service): boolean {
  return service.spec?.type === "LoadBalancer" && service.spec.loadBalancerClass === loadBalancerClass;
}

/** Why a name cannot be that of a load balancer; undefined when it can. */
export function nameFault(name: string): string | undefined {
  if (name.length > 32) return `load balancer name '${name}' has ${name.length} characters; at most 32 are allowed`;
  if (!/^[A-Za-z0-9-]+$/.test(name)) {
    return `load balancer name '${name}' may contain only letters, digits and hyphens`;
  }
  if (name.startsWith("-") || name.endsWith("-")) {
    return `load balancer name '${name}' must not begin or end with a hyphen`;
  }
  if (name.startsWith("internal-")) return `load balancer name '${name}' must not begin with 'internal-'`;
  return undefined;
}

/** A name for what belongs to a Service, in the form that the real controller uses: `k8s-<namespace>-<name>-<hash>`. */
export function generatedName(namespace: string, name: string, ...distinction: string[]): string {
  const hash = createHash("sha256")
    .update([namespace, name, ...distinction].join("/"))
    .digest("hex")
    .slice(0, 10);
  const short = (text: string) => text.replace(/[^A-Za-z0-9]/g, "").slice(0, 8);
  return `k8s-${short(namespace)}-${short(name)}-${hash}`;
}

/** Reads `a=b,c=d`; a member without `=` is given to `bad`. */
function readMap(text: string, bad: (member: string) => void): Record<string, string> {
  const result: Record<string, string> = {};
  for (const member of readList(text)) {
    const at = member.indexOf("=");
    if (at < 1) bad(member);
    else result[member.slice(0, at).trim()] = member.slice(at + 1).trim();
  }
  return result;
}

function readList(text: string): string[] {
  return text
    .split(",")
    .map((member) => member.trim())
    .filter((member) => member !== "");
}

const labelName = /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
const labelPrefix = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

function isLabel(key: string, value: string): boolean {
  const slash = key.indexOf("/");
  const keyIsRight =
    slash < 0 ? labelName.test(key) : labelPrefix.test(key.slice(0, slash)) && labelName.test(key.slice(slash + 1));
  return keyIsRight && (value === "" || labelName.test(value));
}

/** Reads and checks a Service of the controller's class. */
export function readPlan(service: V1Service): PlanReading {
  const faults: string[] = [];
  const warnings: string[] = [];
  const annotations = service.metadata?.annotations ?? {};
  const namespace = service.metadata?.namespace ?? "default";
  const serviceName = service.metadata?.name ?? "";
  const get = (suffix: string) => annotations[prefix + suffix];
  const fault = (suffix: string, problem: string) => faults.push(`annotation ${prefix}${suffix}: ${problem}`);

  for (const key of Object.keys(annotations)) {
    if (!key.startsWith(`${prefix}aws-load-balancer-`)) continue;
    const suffix = key.slice(prefix.length);
    if (obeyed.has(suffix)) continue;
    if (notOffered.has(suffix)) fault(suffix, "the sandbox's load balancers do not offer this");
    else if (!withoutEffectHere.has(suffix) && !suffix.startsWith("aws-load-balancer-listener-attributes.")) {
      warnings.push(`annotation ${key} is not one that the AWS Load Balancer Controller knows: it has no effect`);
    }
  }

  const name = get("aws-load-balancer-name");
  const badName = name === undefined ? undefined : nameFault(name);
  if (badName) fault("aws-load-balancer-name", badName);

  const type = get("aws-load-balancer-type");
  if (type !== undefined && !["external", "nlb", "nlb-ip"].includes(type)) {
    fault("aws-load-balancer-type", `'${type}' is not a type; write external`);
  }
  const targetType = get("aws-load-balancer-nlb-target-type") ?? (type === "nlb-ip" ? "ip" : "instance");
  if (targetType !== "instance" && targetType !== "ip") {
    fault("aws-load-balancer-nlb-target-type", `unsupported target type '${targetType}'; write instance or ip`);
  }

  const internal = get("aws-load-balancer-internal");
  if (internal !== undefined && !isBoolean(internal)) {
    fault("aws-load-balancer-internal", `'${internal}' is neither true nor false`);
  }
  const scheme = get("aws-load-balancer-scheme") ?? (internal === "false" ? "internet-facing" : "internal");
  if (scheme !== "internal" && scheme !== "internet-facing") {
    fault("aws-load-balancer-scheme", `unknown scheme '${scheme}'; write internal or internet-facing`);
  }

  const ipAddressType = get("aws-load-balancer-ip-address-type");
  if (ipAddressType !== undefined && ipAddressType !== "ipv4") {
    fault("aws-load-balancer-ip-address-type", `'${ipAddressType}': the sandbox's VPCs have IPv4 only`);
  }

  const subnetsText = get("aws-load-balancer-subnets");
  const subnets = subnetsText === undefined ? undefined : readList(subnetsText);
  if (subnets && subnets.length === 0) fault("aws-load-balancer-subnets", "it names no subnet");
  if (subnets && new Set(subnets).size < subnets.length) fault("aws-load-balancer-subnets", "it names a subnet twice");

  const groupsText = get("aws-load-balancer-security-groups");
  const noGroups = get("aws-load-balancer-disable-nlb-sg");
  if (noGroups !== undefined && !isBoolean(noGroups)) {
    fault("aws-load-balancer-disable-nlb-sg", `'${noGroups}' is neither true nor false`);
  }
  const groups = readList(groupsText ?? "");
  if (groupsText !== undefined && groups.length === 0) {
    fault("aws-load-balancer-security-groups", "it names no security group; remove it to have one made");
  }
  if (groupsText !== undefined && noGroups === "true") {
    fault("aws-load-balancer-security-groups", `contradicts ${prefix}aws-load-balancer-disable-nlb-sg`);
  }
  const manageRules = get("aws-load-balancer-manage-backend-security-group-rules");
  if (manageRules !== undefined && !isBoolean(manageRules)) {
    fault("aws-load-balancer-manage-backend-security-group-rules", `'${manageRules}' is neither true nor false`);
  }
  if (manageRules === "true") {
    warnings.push(
      `annotation ${prefix}aws-load-balancer-manage-backend-security-group-rules: the sandbox adds no rules to the nodes' security groups, and none are needed`,
    );
  }

  const labelsText = get("aws-load-balancer-target-node-labels");
  const targetNodeLabels = readMap(labelsText ?? "", (member) =>
    fault("aws-load-balancer-target-node-labels", `'${member}' is not of the form key=value`),
  );
  for (const [key, value] of Object.entries(targetNodeLabels)) {
    if (!isLabel(key, value)) {
      fault("aws-load-balancer-target-node-labels", `'${key}=${value}' cannot be a label of a node`);
    }
  }
  if (targetType === "ip" && labelsText !== undefined) {
    warnings.push(`annotation ${prefix}aws-load-balancer-target-node-labels has no effect on targets of type ip`);
  }

  const attributes = (suffix: string, checks: Record<string, (value: string) => boolean>) => {
    const result = readMap(get(suffix) ?? "", (member) => fault(suffix, `'${member}' is not of the form key=value`));
    for (const [key, value] of Object.entries(result)) {
      const check = checks[key];
      if (!check) fault(suffix, `attribute key '${key}' is not recognized; known: ${Object.keys(checks).join(", ")}`);
      else if (!check(value)) fault(suffix, `attribute ${key} cannot have the value '${value}'`);
    }
    return result;
  };
  const targetGroupAttributes = attributes("aws-load-balancer-target-group-attributes", targetGroupAttributeChecks);
  const loadBalancerAttributes = attributes("aws-load-balancer-attributes", loadBalancerAttributeChecks);
  const crossZone = get("aws-load-balancer-cross-zone-load-balancing-enabled");
  if (crossZone !== undefined) {
    if (isBoolean(crossZone)) loadBalancerAttributes["load_balancing.cross_zone.enabled"] ??= crossZone;
    else {
      fault("aws-load-balancer-cross-zone-load-balancing-enabled", `'${crossZone}' is neither true nor false`);
    }
  }

  const tags = readMap(get("aws-load-balancer-additional-resource-tags") ?? "", (member) =>
    fault("aws-load-balancer-additional-resource-tags", `'${member}' is not of the form key=value`),
  );
  for (const key of Object.keys(tags)) {
    if (/^(service\.k8s\.aws|elbv2\.k8s\.aws)\//.test(key)) {
      fault("aws-load-balancer-additional-resource-tags", `tag '${key}' is the controller's own`);
    }
  }

  const number = (suffix: string, fallback: number, least: number, most: number) => {
    const text = get(suffix);
    if (text === undefined) return fallback;
    if (!isInteger(text, least, most)) {
      fault(suffix, `'${text}' must be a whole number from ${least} to ${most}`);
      return fallback;
    }
    return Number(text);
  };
  const protocol = (get("aws-load-balancer-healthcheck-protocol") ?? "TCP").toUpperCase();
  if (protocol !== "TCP" && protocol !== "HTTP") {
    fault("aws-load-balancer-healthcheck-protocol", `'${protocol}': the sandbox checks by TCP or HTTP`);
  }
  const portText = get("aws-load-balancer-healthcheck-port") ?? "traffic-port";
  if (portText !== "traffic-port" && !isInteger(portText, 1, 65535)) {
    fault("aws-load-balancer-healthcheck-port", `'${portText}' must be traffic-port or a port number`);
  }
  const path = get("aws-load-balancer-healthcheck-path");
  if (path !== undefined && !path.startsWith("/")) {
    fault("aws-load-balancer-healthcheck-path", `'${path}' must begin with a slash`);
  }
  const successCodes = get("aws-load-balancer-healthcheck-success-codes");
  if (successCodes !== undefined && !/^\d{3}(-\d{3})?(,\d{3}(-\d{3})?)*$/.test(successCodes)) {
    fault("aws-load-balancer-healthcheck-success-codes", `'${successCodes}' must look like 200, 200-399 or 200,202`);
  }
  const healthCheck: HealthCheckPlan = {
    protocol: protocol === "HTTP" ? "HTTP" : "TCP",
    port: portText === "traffic-port" ? "traffic-port" : Number(portText),
    ...(protocol === "HTTP" ? { path: path ?? "/", successCodes: successCodes ?? "200-399" } : {}),
    intervalSeconds: number("aws-load-balancer-healthcheck-interval", 10, 5, 300),
    timeoutSeconds: number("aws-load-balancer-healthcheck-timeout", protocol === "HTTP" ? 6 : 10, 2, 120),
    healthyThreshold: number("aws-load-balancer-healthcheck-healthy-threshold", 3, 2, 10),
    unhealthyThreshold: number("aws-load-balancer-healthcheck-unhealthy-threshold", 3, 2, 10),
  };
  if (healthCheck.timeoutSeconds > healthCheck.intervalSeconds) {
    fault(
      "aws-load-balancer-healthcheck-timeout",
      `${healthCheck.timeoutSeconds} s is longer than the interval of ${healthCheck.intervalSeconds} s`,
    );
  }

  const listeners: ListenerPlan[] = (service.spec?.ports ?? []).map((port) => {
    if ((port.protocol ?? "TCP") !== "TCP") {
      faults.push(`port ${port.port}: protocol ${port.protocol}: the sandbox's load balancers forward TCP only`);
    }
    if (targetType === "instance" && !port.nodePort) {
      faults.push(
        `port ${port.port} has no node port, which targets of type instance need; set allocateLoadBalancerNodePorts to true or ${prefix}aws-load-balancer-nlb-target-type to ip`,
      );
    }
    return {
      port: port.port,
      nodePort: port.nodePort,
      targetPort: (port.targetPort as number | string | undefined) ?? port.port,
      name: port.name ?? "",
    };
  });
  if (listeners.length === 0) faults.push("the Service has no ports");

  if (faults.length > 0) return { faults, warnings };
  return {
    faults,
    warnings,
    plan: {
      name: name ?? generatedName(namespace, serviceName),
      scheme: scheme as LoadBalancerPlan["scheme"],
      subnets,
      securityGroups: groupsText !== undefined ? groups : noGroups === "true" ? "none" : "managed",
      targetType: targetType as LoadBalancerPlan["targetType"],
      targetNodeLabels,
      healthCheck,
      targetGroupAttributes,
      loadBalancerAttributes,
      tags,
      listeners,
    },
  };
}
