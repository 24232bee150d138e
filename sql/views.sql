CREATE VIEW s3vector_stat_graphs AS SELECT * FROM s3vector_graphs();
COMMENT ON VIEW s3vector_stat_graphs IS 'index graphs in shared memory, and those being loaded';

CREATE VIEW s3vector_stat_cache AS SELECT * FROM s3vector_cache();
COMMENT ON VIEW s3vector_stat_cache IS
    'where queries found vectors: cache in shared memory, Redis, storage, the table';

CREATE VIEW s3vector_stat_storage AS SELECT * FROM s3vector_storage();
COMMENT ON VIEW s3vector_stat_storage IS
    'requests to storage, what they brought, and what was done about slow and failing ones';

CREATE VIEW s3vector_stat_requests AS SELECT * FROM s3vector_requests();
COMMENT ON VIEW s3vector_stat_requests IS
    'requests to storage and Redis by kind, with their latencies';

CREATE VIEW s3vector_stat_worker AS SELECT * FROM s3vector_worker();
COMMENT ON VIEW s3vector_stat_worker IS 'the storage worker: process id, starts, failures';

CREATE VIEW s3vector_stat_indexes AS
    SELECT index::regclass, segments, loaded_segments, resident_bytes, storage_bytes, entries,
           tombstones, delta_rows, delta_bytes, backlog
    FROM s3vector_indexes();
COMMENT ON VIEW s3vector_stat_indexes IS
    's3vector indexes of this database: segments, memory, and what waits to be flushed';

CREATE VIEW s3vector_stat_maintenance AS SELECT * FROM s3vector_maintenance();
COMMENT ON VIEW s3vector_stat_maintenance IS
    'maintenance of each database: what a worker is doing, what has been done, what failed';

REVOKE ALL ON FUNCTION s3vector_sweep(boolean), s3vector_adopt(), s3vector_drop_cache() FROM PUBLIC;
