-- Every partition has its leader on a live node of :region.
select concat('partition ', p.partition_id, coalesce(concat(' is led by ', n.name, ', which is ', n.state), ' has no leader')) as missing
from partitions p
left join nodes n on n.plain_node_id = p.leader_plain_node_id
where (n.location is distinct from ':region') or (n.state is distinct from 'alive')
order by p.partition_id
