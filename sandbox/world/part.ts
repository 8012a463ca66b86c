/** A part: one long-running process of the sandbox's world, as the supervisor runs it. */
export interface Part {
  /** Unique name, e.g. `region1/kube-apiserver`; also the name of its log file (with `/` as `-`). */
  name: string;
  /** Program and arguments. Runs inside the sandbox's namespaces, with the clone's folder as working directory. */
  command: string[];
  /** Environment in addition to the supervisor's. */
  env?: Record<string, string>;
  /** Names of the parts that must be ready before this one starts. */
  after?: string[];
  /** Parts that this one must not outlive: when one of them ends, this one is ended too, before that one starts again. */
  boundTo?: string[];
  /** Seconds between SIGTERM and SIGKILL when it is stopped; default 5. */
  stopSeconds?: number;
  /** Asked again and again, inside the namespaces, until it answers true. A rejection counts as false. */
  ready(): Promise<boolean>;
}
