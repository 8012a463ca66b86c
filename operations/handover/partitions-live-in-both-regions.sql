-- Every partition has a processor in each region, and none is on its way.
select concat('partition ', p.partition_id, ' has no processor in ', l.location) as missing
from partitions p
cross join (select distinct location from nodes) l
left join (
  select r.partition_id, n.location
  from partition_replica_set r
  join nodes n on n.plain_node_id = r.plain_node_id
  where r.membership = 'current'
) s on s.partition_id = p.partition_id and s.location = l.location
where s.partition_id is null
union all
select concat('partition ', r.partition_id, ' is still moving') as missing
from partition_replica_set r
where r.membership <> 'current'
