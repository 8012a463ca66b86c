-- Each region leads at least half of the partitions, rounded down.
select concat(l.location, ' leads ', count(p.partition_id), ' of ', max(t.total), ' partitions') as missing
from (select distinct location from nodes) l
cross join (select count(*) as total from partitions) t
left join nodes n on n.location = l.location
left join partitions p on p.leader_plain_node_id = n.plain_node_id
group by l.location
having count(p.partition_id) < max(t.total) / 2
