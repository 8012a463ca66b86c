/** Names, addresses, quorums and who leads, for every number of replicas. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  clusterNodes,
  leadRegion,
  loadBalancerName,
  maxLoadBalancerName,
  metadataQuorum,
  otherRegion,
  provisionedReplication,
  regionDomain,
  regionNames,
  regionNodes,
  servingValues,
} from "../../topology";

const region = fc.constantFrom(...regionNames);
const replicas = fc.integer({ min: 1, max: 9 });
const domain = fc.domain();

describe("table", () => {
  test("the other region", () => {
    assert.equal(otherRegion("region1"), "region2");
    assert.equal(otherRegion("region2"), "region1");
  });

  const leads = [
    { home: "region1", serving: "both", lead: "region1" },
    { home: "region1", serving: "region1", lead: "region1" },
    { home: "region1", serving: "region2", lead: "region2" },
    { home: "region2", serving: "both", lead: "region2" },
    { home: "region2", serving: "region1", lead: "region1" },
    { home: "region2", serving: "region2", lead: "region2" },
  ] as const;
  for (const { home, serving, lead } of leads) {
    test(`home ${home}, serving ${serving}: ${lead} leads`, () => assert.equal(leadRegion({ home, serving }), lead));
  }

  test("a node's name, host name and address", () => {
    assert.deepEqual(regionNodes({ replicas: 2, domain: "restate.example.com" }, "region2")[1], {
      region: "region2",
      index: 1,
      pod: "restate-1",
      name: "restate-1.region2",
      hostname: "restate-1.region2.restate.example.com",
      address: "http://restate-1.region2.restate.example.com:5122",
    });
  });

  test("the cluster's nodes are region1's, then region2's, each in the order of its pods", () => {
    assert.deepEqual(
      clusterNodes({ replicas: 2, domain: "d.example" }).map((node) => node.name),
      ["restate-0.region1", "restate-1.region1", "restate-0.region2", "restate-1.region2"],
    );
  });

  for (const [count, log] of [
    [1, "{node: 2, region: 2}"],
    [2, "{node: 3, region: 2}"],
    [3, "{node: 3, region: 2}"],
    [9, "{node: 3, region: 2}"],
  ] as const) {
    test(`replication with ${count} replicas`, () => {
      assert.deepEqual(provisionedReplication(count), { log, partition: "{region: 2}" });
    });
  }

  for (const [count, quorum] of [
    [1, 2],
    [2, 3],
    [3, 4],
    [9, 10],
  ] as const) {
    test(`metadata quorum with ${count} replicas`, () => assert.equal(metadataQuorum(count), quorum));
  }
});

describe("properties", () => {
  test("names, host names and addresses are unique, and as many as there are nodes", () => {
    fc.assert(
      fc.property(replicas, domain, (count, name) => {
        const nodes = clusterNodes({ replicas: count, domain: name });
        assert.equal(nodes.length, 2 * count);
        for (const key of ["name", "hostname", "address"] as const) {
          assert.equal(new Set(nodes.map((node) => node[key])).size, 2 * count, key);
        }
        for (const one of regionNames) {
          const own = nodes.filter((node) => node.region === one);
          assert.deepEqual(own, regionNodes({ replicas: count, domain: name }, one));
          assert.deepEqual(
            own.map((node) => node.index),
            Array.from({ length: count }, (_, i) => i),
          );
        }
      }),
    );
  });

  test("an address leads to its node's host name, below its region's domain", () => {
    fc.assert(
      fc.property(replicas, domain, region, (count, name, one) => {
        for (const node of regionNodes({ replicas: count, domain: name }, one)) {
          const url = new URL(node.address);
          assert.equal(url.hostname, node.hostname.toLowerCase());
          assert.equal(url.port, "5122");
          assert.ok(node.hostname.endsWith(`.${regionDomain(one, name)}`));
          assert.equal(node.name, `${node.pod}.${one}`);
        }
      }),
    );
  });

  test("the lead region serves", () => {
    fc.assert(
      fc.property(region, fc.constantFrom(...servingValues), (home, serving) => {
        const lead = leadRegion({ home, serving });
        assert.ok(serving === "both" ? lead === home : lead === serving);
      }),
    );
  });

  test("logs never want more copies than there are nodes, and both regions hold some", () => {
    fc.assert(
      fc.property(replicas, (count) => {
        const match = /^\{node: (\d+), region: (\d+)\}$/.exec(provisionedReplication(count).log);
        const [copies, regions] = [Number(match?.[1]), Number(match?.[2])];
        assert.ok(copies <= 2 * count && copies >= 2);
        assert.equal(regions, 2);
      }),
    );
  });

  test("the metadata quorum is the least majority of all nodes, and more than one region has", () => {
    fc.assert(
      fc.property(replicas, (count) => {
        assert.equal(metadataQuorum(count), Math.floor((2 * count) / 2) + 1);
        assert.ok(metadataQuorum(count) > count);
      }),
    );
  });

  test("with the longest cluster name, every load balancer's name fits and is unique", () => {
    fc.assert(
      fc.property(replicas, fc.stringMatching(/^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$/), (count, prefix) => {
        const names = regionNames.flatMap((one) =>
          regionNodes({ replicas: count, domain: "d.example" }, one).map((n) => loadBalancerName(prefix, one, n.index)),
        );
        assert.equal(new Set(names).size, 2 * count);
        for (const name of names) {
          assert.ok(name.length <= maxLoadBalancerName, name);
          assert.match(name, /^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$/);
        }
      }),
    );
  });
});
