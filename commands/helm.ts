/** Helm releases that a killed run left halfway: Helm refuses every further operation on such a release by itself. */
import type { V1Secret } from "@kubernetes/client-node";
import type { ClusterAccess } from "../kubernetes/access";
import { coreApi } from "../kubernetes/client";

/** The record of one revision, as Helm keeps it in the cluster. */
export interface HelmRecord {
  /** Name of the release. */
  release: string;
  secret: string;
  uid: string;
  revision: number;
  status: string;
  /** When Helm last wrote it, in milliseconds since 1970. */
  writtenAt: number;
}

/** A Helm release by its name. */
export interface ReleaseName {
  namespace: string;
  name: string;
}

/** A record, from the secret that holds it. Pure. */
export function helmRecord({ metadata }: V1Secret): HelmRecord {
  const { name = "", uid = "", labels = {}, creationTimestamp } = metadata ?? {};
  const written = Number(labels.modifiedAt ?? labels.createdAt) * 1000;
  return {
    release: labels.name ?? "",
    secret: name,
    uid,
    revision: Number(labels.version),
    status: labels.status ?? "unknown",
    writtenAt: written || new Date(creationTimestamp ?? 0).getTime(),
  };
}

/**
 * The records that have to go so that Helm can go on, given that no operation is running; none if the newest revision was
 * finished. An installation or upgrade is forgotten, so that the next one begins where it began and takes over what
 * is there of it. Of a removal everything is forgotten: what is left belongs to nobody until the next installation
 * takes it over. Pure.
 */
export function unfinished(records: readonly HelmRecord[]): HelmRecord[] {
  const newest = records.toSorted((a, b) => b.revision - a.revision)[0];
  if (newest?.status.startsWith("pending-")) return [newest];
  return newest?.status === "uninstalling" ? [...records] : [];
}

/** All records of the releases in a namespace. */
export async function readRecords(access: ClusterAccess, namespace: string): Promise<HelmRecord[]> {
  const api = await coreApi(access);
  const { items } = await api.listNamespacedSecret({ namespace, labelSelector: "owner=helm" });
  return items.map(helmRecord);
}

/** Removes records, and only those that were read: one that was written anew since then stays. */
export async function removeRecords(
  access: ClusterAccess,
  { namespace }: ReleaseName,
  records: readonly HelmRecord[],
): Promise<void> {
  const api = await coreApi(access);
  for (const { secret, uid } of records) {
    try {
      await api.deleteNamespacedSecret({ namespace, name: secret, body: { preconditions: { uid } } });
    } catch (error) {
      if ((error as { code?: number }).code !== 404) throw error;
    }
  }
}
