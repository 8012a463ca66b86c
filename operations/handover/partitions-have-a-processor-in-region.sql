-- Every partition has a processor in :region.
select concat('partition ', p.partition_id, ' has no processor in :region') as missing
from partitions p
where not exists (
  select 1 from partition_replica_set r
  join nodes n on n.plain_node_id = r.plain_node_id
  where r.partition_id = p.partition_id and r.membership = 'current' and n.location = ':region'
)
order by p.partition_id
