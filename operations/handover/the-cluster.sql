-- All that decisions are made from, in one answer. `kind` tells what a row is, and the other columns are, as text:
--   node: id, name, location, state, storage, worker, metadata server    partition: id, leader
--   replica: partition, node, membership    log: id, segment, base, replication, nodeset, sequencer
--   progress: partition, applied, archived
select * from (
  select 'node' as kind, plain_node_id as a, name as b, location as c, state as d, storage_state as e, worker_state as f,
    metadata_server_state as g
  from nodes
  union all
  select 'partition', cast(partition_id as varchar), leader_plain_node_id, null, null, null, null, null
  from partitions
  union all
  select 'replica', cast(partition_id as varchar), plain_node_id, membership, null, null, null, null
  from partition_replica_set
  union all
  select 'log', cast(log_id as varchar), cast(segment_index as varchar), cast(base_lsn as varchar), replication, nodeset, sequencer, null
  from logs_tail_segments
  union all
  select 'progress', cast(partition_id as varchar), cast(max(applied_log_lsn) as varchar), cast(max(archived_log_lsn) as varchar),
    null, null, null, null
  from partition_state
  group by partition_id
) everything
order by kind, length(a), a
