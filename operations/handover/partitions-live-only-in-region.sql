-- No partition has a processor, nor will get one, outside :region.
select concat('partition ', r.partition_id, ' is on ', n.name) as missing
from partition_replica_set r
join nodes n on n.plain_node_id = r.plain_node_id
where n.location <> ':region'
order by r.partition_id
