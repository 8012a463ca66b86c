-- Every log takes new records, replicated :replication.
select concat('log ', l.log_id, case
  when l.nodeset is null or l.nodeset = '[]' then ' is sealed'
  else concat(' is replicated ', l.replication) end) as missing
from logs_tail_segments l
where l.nodeset is null
  or l.nodeset = '[]'
  or (l.replication is distinct from ':replication')
order by l.log_id
