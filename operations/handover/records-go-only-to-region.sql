-- Every log takes new records on nodes of :region alone, replicated :replication.
select concat('log ', l.log_id, case
  when l.nodeset is null or l.nodeset = '[]' then ' is sealed'
  when (l.replication is distinct from ':replication') then concat(' is replicated ', l.replication)
  else concat(' takes records on ', l.nodeset) end) as missing
from logs_tail_segments l
where l.nodeset is null
  or l.nodeset = '[]'
  or (l.replication is distinct from ':replication')
  or exists (
    select 1 from nodes n
    where n.location <> ':region'
      and (l.nodeset like concat('%', n.plain_node_id, ',%') or l.nodeset like concat('%', n.plain_node_id, ']%'))
  )
order by l.log_id
