-- Every node of :region is alive and takes records and partitions.
select concat(n.name, ' is ', n.state, ', its storage ', n.storage_state, ', its worker ', n.worker_state) as missing
from nodes n
where n.location = ':region'
  and (n.state <> 'alive' or n.storage_state <> 'read-write' or n.worker_state <> 'active')
order by n.name
