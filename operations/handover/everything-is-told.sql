-- The cluster tells of :nodes nodes, and of :partitions partitions and as many logs: of less, the other gates would hold too easily.
select concat('the cluster tells of ', t.number, ' ', t.kind, ', not of ', t.wanted) as missing
from (
  select 'nodes' as kind, count(*) as number, :nodes as wanted from nodes
  union all
  select 'partitions' as kind, count(*) as number, :partitions as wanted from partitions
  union all
  select 'logs' as kind, count(*) as number, :partitions as wanted from logs_tail_segments
) t
where t.number < t.wanted
