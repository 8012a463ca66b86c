-- Every processor in :region is at work and has applied what there was when :asked was read: pairs of partition and LSN.
select concat('partition ', r.partition_id, ' on ', n.name, case
  when s.replay_status is null then ' is not heard of'
  when s.applied_log_lsn is null or s.applied_log_lsn < a.lsn
    then concat(' has applied ', coalesce(s.applied_log_lsn, 0), ' of ', a.lsn, ' records')
  else concat(' is ', s.replay_status) end) as missing
from partition_replica_set r
join nodes n on n.plain_node_id = r.plain_node_id
join (values :asked) as a (partition_id, lsn) on a.partition_id = r.partition_id
left join partition_state s on s.partition_id = r.partition_id and s.plain_node_id = r.plain_node_id
where n.location = ':region'
  and ((s.replay_status is distinct from 'active') or s.applied_log_lsn is null or s.applied_log_lsn < a.lsn)
order by r.partition_id
