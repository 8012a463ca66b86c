-- Every node is a member of the metadata store.
select concat(n.name, ' is no member of the metadata store: ', n.metadata_server_state) as missing
from nodes n
where n.metadata_server_state <> 'member'
order by n.name
