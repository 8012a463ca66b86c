-- All that decisions are made from, in one answer. `kind` tells what a row is, and the other columns are, as text:
--   node: id, name, location, state, storage, worker, metadata server, version    partition: id, leader
--   replica: partition, node, membership    log: id, segment, base, replication, nodeset, sequencer
--   progress: partition, applied, archived
-- (Restate 1.6 wants a name for every column of every part.)
select * from (
  select 'node' as kind, plain_node_id as a, name as b, location as c, state as d, storage_state as e, worker_state as f,
    metadata_server_state as g, binary_version as h
  from nodes
  union all
  select 'partition' as kind, cast(partition_id as varchar) as a, leader_plain_node_id as b, null as c, null as d, null as e,
    null as f, null as g, null as h
  from partitions
  union all
  select 'replica' as kind, cast(partition_id as varchar) as a, plain_node_id as b, membership as c, null as d, null as e,
    null as f, null as g, null as h
  from partition_replica_set
  union all
  select 'log' as kind, cast(log_id as varchar) as a, cast(segment_index as varchar) as b, cast(base_lsn as varchar) as c,
    replication as d, nodeset as e, sequencer as f, null as g, null as h
  from logs_tail_segments
  union all
  select 'progress' as kind, cast(partition_id as varchar) as a, cast(max(applied_log_lsn) as varchar) as b,
    cast(max(archived_log_lsn) as varchar) as c, null as d, null as e, null as f, null as g, null as h
  from partition_state
  group by partition_id
) everything
order by kind, length(a), a
