-- Every log that takes records has its sequencer, which knows what of it is written, on a node of :region.
select concat('log ', l.log_id, ' is sequenced by ', l.sequencer) as missing
from logs_tail_segments l
where l.sequencer is not null
  and not exists (
    select 1 from nodes n
    where n.location = ':region'
      and (l.sequencer = n.plain_node_id or l.sequencer like concat(n.plain_node_id, ':%'))
  )
order by l.log_id
