"""Where moto differs from AWS in what the sandbox uses, and is put right. Each function says what moto does by itself."""

import copy

import xmltodict
from moto.ec2.models import EC2Backend
from moto.ec2.models.instances import Instance
from moto.elbv2 import models as elb
from moto.elbv2.exceptions import DuplicateLoadBalancerName
from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket, S3Backend
from moto.s3.responses import S3Response
from replication import NAMESPACE


def _bucket_policies():
    """moto's own check of bucket policies looks at no conditions, and takes a ban of plain HTTP for a ban of
    everything. The gateway evaluates them."""
    FakeBucket.get_permission = lambda *_args: PermissionResult.PERMITTED


def _lifecycle():
    """moto forgets parts of lifecycle rules (NewerNoncurrentVersions, empty filters)."""
    put, get = S3Backend.put_bucket_lifecycle, S3Response.get_bucket_lifecycle

    def put_bucket_lifecycle(self, bucket_name, rules):
        rules = rules if isinstance(rules, list) else [rules]
        for number, rule in enumerate(rules):
            rule["ID"] = rule.get("ID") or f"rule-{number}"
        given = copy.deepcopy(rules)
        put(self, bucket_name, rules)
        self.get_bucket(bucket_name).sandbox_lifecycle = given

    def get_bucket_lifecycle(self):
        bucket = self.backend.get_bucket(self.bucket_name)
        if not bucket.rules:
            return get(self)
        shown = {"@xmlns": NAMESPACE, "Rule": bucket.sandbox_lifecycle}
        headers = {"x-amz-transition-default-minimum-object-size": "all_storage_classes_128K"}
        return 200, headers, xmltodict.unparse({"LifecycleConfiguration": shown})

    S3Backend.put_bucket_lifecycle = put_bucket_lifecycle
    S3Response.get_bucket_lifecycle = get_bucket_lifecycle


def _instance_names():
    """moto makes an instance's private name from its address; here the gateway may give it another."""
    derived = Instance.private_dns_name.fget
    Instance.private_dns_name = property(
        lambda instance: getattr(instance, "sandbox_private_dns_name", None) or derived(instance)
    )


def _volumes():
    """moto wants the instance named to detach a volume; in AWS it is optional."""
    detach = EC2Backend.detach_volume

    def detach_volume(self, volume_id, instance_id, device_path):
        attachment = self.get_volume(volume_id).attachment
        if not instance_id and attachment:
            instance_id = attachment.instance.id
        return detach(self, volume_id, instance_id, device_path)

    EC2Backend.detach_volume = detach_volume


def _network_load_balancers():
    """moto names every load balancer as an application load balancer, wants two zones of it, and takes a name twice."""
    create, set_subnets = elb.ELBv2Backend.create_load_balancer, elb.ELBv2Backend.set_subnets

    def create_load_balancer(self, name, *args, **kwargs):
        wanted = set(kwargs.get("subnet_ids") or [])
        wanted |= {mapping["SubnetId"] for mapping in kwargs.get("subnet_mappings") or []}
        for existing in self.load_balancers.values():
            if existing.name != name:
                continue
            same = (
                existing.type == (kwargs.get("loadbalancer_type") or "application")
                and existing.scheme == (kwargs.get("scheme") or "internet-facing")
                and {subnet.id for subnet in existing.subnets} == wanted
            )
            # AWS gives back what exists when it is just what was asked for.
            if same:
                return existing
            raise DuplicateLoadBalancerName()
        made = create(self, name, *args, **kwargs)
        if made.type == "network":
            del self.load_balancers[made.arn]
            tags = self.tagging_service.list_tags_for_resource(made.arn)["Tags"]
            self.tagging_service.delete_all_tags_for_resource(made.arn)
            made.arn = made.arn.replace(":loadbalancer/app/", ":loadbalancer/net/")
            made.dns_name = f"{name}-{made.arn.rpartition('/')[2]}.elb.{self.region_name}.amazonaws.com"
            self.load_balancers[made.arn] = made
            self.tagging_service.tag_resource(made.arn, tags)
        return made

    def set_subnets_of_any_number(self, arn, subnets, subnet_mappings):
        balancer = self.load_balancers.get(arn)
        if balancer is None or balancer.type != "network":
            return set_subnets(self, arn, subnets, subnet_mappings)
        ids = [*subnets, *(mapping["SubnetId"] for mapping in subnet_mappings)]
        zones = {}
        for subnet_id in ids:
            zones[self._get_subnet(zones, subnet_id).availability_zone] = subnet_id
        balancer.subnets = [self.ec2_backend.get_subnet(subnet_id) for subnet_id in ids]
        return [elb.AvailabilityZone(subnet) for subnet in balancer.subnets]

    elb.ELBv2Backend.create_load_balancer = create_load_balancer
    elb.ELBv2Backend.set_subnets = set_subnets_of_any_number


def status_of(status, chunks):
    """The HTTP status of an answer of S3: moto gives 400 to all errors that botocore's model does not list."""
    return "409 CONFLICT" if any(b"<Code>InvalidBucketState</Code>" in chunk for chunk in chunks[:1]) else status


def _deletions_while_suspended():
    """moto takes a bucket whose versioning is suspended for one without versions: deleting one version drops the whole
    key, and fails where the key has a delete marker. Here only that version goes; without a version, a delete marker
    is added (with an id of its own, where AWS gives it the id `null`)."""
    delete_object = S3Backend.delete_object

    def delete_version(self, bucket_name, key_name, version_id=None, bypass=False):
        bucket = self.get_bucket(bucket_name)
        if bucket.versioning_status != "Suspended":
            return delete_object(self, bucket_name, key_name, version_id, bypass)
        bucket.versioning_status = "Enabled"
        try:
            return delete_object(self, bucket_name, key_name, version_id, bypass)
        finally:
            bucket.versioning_status = "Suspended"

    S3Backend.delete_object = delete_version


def patch_moto():
    """Applies all of it. Call once, before any request."""
    _bucket_policies()
    _lifecycle()
    _instance_names()
    _volumes()
    _network_load_balancers()
    _deletions_while_suspended()
