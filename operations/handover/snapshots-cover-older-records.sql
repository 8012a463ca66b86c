-- Every partition has a snapshot that holds all records of its log's older segments, those from before the handover.
select concat('partition ', p.partition_id, ': its snapshot holds records up to ', coalesce(max(s.archived_log_lsn), 0), ', and ', least(max(l.base_lsn) - 1, max(s.applied_log_lsn)), ' are wanted') as missing
from partitions p
join logs_tail_segments l on l.log_id = p.log_id
left join partition_state s on s.partition_id = p.partition_id
group by p.partition_id
having coalesce(max(s.archived_log_lsn), 0) < least(max(l.base_lsn) - 1, max(s.applied_log_lsn))
