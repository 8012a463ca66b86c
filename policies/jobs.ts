/** Rules about Jobs and CronJobs: what runs inside the cluster on behalf of the stack. */
import { isPinned } from "./release";
import { type Report, type Resource, rule } from "./rule";
import { jobSpec, podSpec, types } from "./types";
import type { Value } from "./value";

const jobs = [...types.job, ...types.cronJob];

/** Looks at each container of a Job or CronJob, with the words to name it. */
function eachContainer(look: (container: Value, id: string, report: Report, pod: Value) => void) {
  return {
    types: jobs,
    check(resource: Resource, report: Report) {
      const pod = podSpec(resource);
      for (const container of [...pod.get("initContainers").list, ...pod.get("containers").list]) {
        report.part(() => look(container, `the container ${container.get("name").text ?? ""}`, report, pod));
      }
    },
  };
}

export const jobRules = [
  rule({
    id: "job-deadline",
    title: "Jobs have a deadline, and Pulumi waits that long.",
    why: "A Job that hangs blocks the update, and with it a handover; one that outlives the wait goes on unseen.",
    severity: "medium",
    level: "mandatory",
    standards: [],
    parameters: {
      mostSeconds: { about: "Longest deadline of a Job, in seconds.", type: "integer", default: 7200 },
    },
    resource: {
      types: jobs,
      check(resource, report, { mostSeconds }) {
        const deadline = jobSpec(resource).get("activeDeadlineSeconds").number;
        if (deadline === undefined || deadline <= 0 || deadline > mostSeconds) {
          report.violation(
            `its deadline is ${deadline === undefined ? "not set" : `${deadline} s`}`,
            `set activeDeadlineSeconds to at most ${mostSeconds}`,
          );
          return;
        }
        const isJob = (types.job as readonly string[]).includes(resource.type);
        // Pulumi waits 10 minutes unless told otherwise.
        const wait = resource.createTimeout || 600;
        if (isJob && !jobSpec(resource).get("suspend").isTrue && wait < deadline) {
          report.violation(
            `Pulumi waits ${wait} s for it, its deadline is ${deadline} s`,
            "set customTimeouts.create to the deadline at least",
          );
        }
      },
    },
  }),

  rule({
    id: "job-image-pinned",
    title: "Jobs run images by exact version or digest.",
    why: "What operates the cluster must be what was reviewed.",
    severity: "high",
    level: "mandatory",
    standards: ["CKV_K8S_14", "CKV_K8S_43", "AVD-KSV-0013"],
    resource: eachContainer((container, id, report) => {
      const image = container.get("image").text;
      if (!isPinned(image ?? "")) {
        report.violation(`${id} runs ${image ?? "no image"}`, "name an exact version or a digest");
      }
    }),
  }),

  rule({
    id: "job-unprivileged",
    title: "Jobs run without privileges: not as root, no escalation, no capabilities, root file system read-only.",
    why: "They have the nodes' network, which is all that commanding the cluster takes.",
    severity: "high",
    level: "mandatory",
    standards: [
      "CKV_K8S_16",
      "CKV_K8S_20",
      "CKV_K8S_22",
      "CKV_K8S_23",
      "CKV_K8S_31",
      "CKV_K8S_37",
      "AVD-KSV-0001",
      "AVD-KSV-0003",
      "AVD-KSV-0012",
      "AVD-KSV-0014",
    ],
    resource: eachContainer((container, id, report, pod) => {
      const own = container.get("securityContext");
      const shared = pod.get("securityContext");
      const inherited = (key: string) => own.get(key).text ?? shared.get(key).text;
      const faults: [boolean, string, string][] = [
        [inherited("runAsNonRoot") !== "true", "may run as root", "set runAsNonRoot: true"],
        [inherited("runAsUser") === "0", "runs as root", "set runAsUser to another user"],
        [own.get("privileged").isTrue, "is privileged", "take privileged out"],
        [
          own.get("allowPrivilegeEscalation").text !== "false",
          "may gain privileges",
          "set allowPrivilegeEscalation: false",
        ],
        [
          !own.get("readOnlyRootFilesystem").isTrue,
          "can write its root file system",
          "set readOnlyRootFilesystem: true",
        ],
        [!own.get("capabilities", "drop").texts.includes("ALL"), "keeps capabilities", "drop ALL capabilities"],
        [
          own.get("seccompProfile", "type").text === undefined &&
            shared.get("seccompProfile", "type").text === undefined,
          "has no seccomp profile",
          "set seccompProfile.type to RuntimeDefault",
        ],
      ];
      for (const [wrong, fault, remedy] of faults) if (wrong) report.violation(`${id} ${fault}`, remedy);
    }),
  }),

  rule({
    id: "job-no-host",
    title: "Jobs see nothing of their machine.",
    why: "With the machine's network, processes or files a Job has the machine's identity.",
    severity: "high",
    level: "mandatory",
    standards: ["AVD-KSV-0009", "AVD-KSV-0010", "AVD-KSV-0023"],
    resource: {
      types: jobs,
      check(resource, report) {
        const pod = podSpec(resource);
        for (const key of ["hostNetwork", "hostPID", "hostIPC"]) {
          report.part(() => {
            if (pod.get(key).isTrue) report.violation(`it uses ${key}`, `take ${key} out`);
          });
        }
        for (const volume of pod.get("volumes").list) {
          report.part(() => {
            if (!volume.get("hostPath").missing) {
              report.violation(
                `the volume ${volume.get("name").text ?? ""} is a path of the machine`,
                "use an emptyDir",
              );
            }
          });
        }
      },
    },
  }),

  rule({
    id: "job-no-ttl",
    title: "Jobs stay when they are done.",
    why: "A Job that is cleaned away vanishes from the state at the next refresh, and the update after that runs it again.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: {
      types: types.job,
      check(resource, report) {
        const ttl = jobSpec(resource).get("ttlSecondsAfterFinished").text;
        if (ttl !== undefined)
          report.violation(`it is deleted ${ttl} s after its end`, "take ttlSecondsAfterFinished out");
      },
    },
  }),

  rule({
    id: "job-bounded-retries",
    title: "Jobs say how often they are tried again.",
    why: "The default is six times, each with the full deadline of its script and half of them unseen.",
    severity: "low",
    level: "mandatory",
    standards: [],
    parameters: {
      mostRetries: { about: "Most that a Job may be tried again.", type: "integer", default: 3 },
    },
    resource: {
      types: jobs,
      check(resource, report, { mostRetries }) {
        const retries = jobSpec(resource).get("backoffLimit").number;
        if (retries === undefined || retries > mostRetries) {
          report.violation(
            `it is tried again ${retries === undefined ? "as often as Kubernetes likes" : `${retries} times`}`,
            `set backoffLimit to at most ${mostRetries}`,
          );
        }
      },
    },
  }),

  rule({
    id: "job-no-api-token",
    title: "Jobs get no token for the Kubernetes API.",
    why: "They talk to Restate nodes; the API would only widen what a compromised image can do.",
    severity: "low",
    level: "advisory",
    standards: ["CKV_K8S_38"],
    resource: {
      types: jobs,
      check(resource, report) {
        if (podSpec(resource).get("automountServiceAccountToken").text !== "false") {
          report.violation("its pods get a token", "set automountServiceAccountToken: false");
        }
      },
    },
  }),

  rule({
    id: "cronjob-by-hand",
    title: "CronJobs are templates: suspended, and never two at a time.",
    why: "Handover and failover are people's decisions; two at once would work against each other.",
    severity: "high",
    level: "mandatory",
    standards: [],
    parameters: {
      scheduled: { about: "Names of CronJobs that may run by their schedule.", type: "array", default: [] as string[] },
    },
    resource: {
      types: types.cronJob,
      check({ props, name }, report, { scheduled }) {
        report.part(() => {
          if (!props.get("spec", "suspend").isTrue && !scheduled.includes(name)) {
            report.violation(
              "it runs by its schedule",
              "set suspend: true, or name it in the rule's parameter scheduled",
            );
          }
        });
        const policy = props.get("spec", "concurrencyPolicy").text;
        if (policy !== "Forbid") {
          report.violation(`two may run at a time (${policy ?? "the default"})`, "set concurrencyPolicy to Forbid");
        }
      },
    },
  }),
];
