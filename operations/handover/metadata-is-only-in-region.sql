-- All members of the metadata store are in :region, and all its nodes are members.
select concat(n.name, case when n.location = ':region' then ' is no member of the metadata store yet: ' else ' is still in the metadata store: ' end, n.metadata_server_state) as missing
from nodes n
where (n.location = ':region') <> (n.metadata_server_state = 'member')
order by n.name
