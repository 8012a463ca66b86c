-- No node of :region, but the one with the id :but, is chosen for new records or partitions.
select concat(n.name, ' has its storage ', n.storage_state, ', its worker ', n.worker_state) as missing
from nodes n
where n.location = ':region' and n.plain_node_id <> ':but'
  and (n.storage_state not in ('read-only', 'disabled', 'gone') or n.worker_state not in ('draining', 'disabled'))
order by n.name
