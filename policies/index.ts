/**
 * The policy pack: `pulumi preview --policy-pack policies`. Every rule is in a file of its group; README.md lists all.
 *
 * Levels, parameters and exemptions come from the file that `--policy-pack-config` names.
 */
import { PolicyPack } from "@pulumi/policy";
import { toPolicy } from "./rule";
import { rules } from "./rules";

new PolicyPack("restate-two-regions", { policies: rules.map((rule) => toPolicy(rule)) });
