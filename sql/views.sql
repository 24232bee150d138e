CREATE VIEW s3vector_stat_graphs AS SELECT * FROM s3vector_graphs();
COMMENT ON VIEW s3vector_stat_graphs IS 'index graphs in shared memory, and those being loaded';

CREATE VIEW s3vector_stat_cache AS SELECT * FROM s3vector_cache();
COMMENT ON VIEW s3vector_stat_cache IS 'the cache of vectors fetched from storage';

CREATE VIEW s3vector_stat_worker AS SELECT * FROM s3vector_worker();
COMMENT ON VIEW s3vector_stat_worker IS 'the storage worker: requests, bytes, errors';

CREATE VIEW s3vector_stat_indexes AS
    SELECT index::regclass, segments, entries, tombstones, delta_rows, delta_bytes, backlog
    FROM s3vector_indexes();
COMMENT ON VIEW s3vector_stat_indexes IS
    's3vector indexes of this database: segments, and what waits to be flushed';

CREATE VIEW s3vector_stat_maintenance AS SELECT * FROM s3vector_maintenance();
COMMENT ON VIEW s3vector_stat_maintenance IS
    'maintenance of each database: what a worker is doing, what has been done, what failed';

REVOKE ALL ON FUNCTION s3vector_sweep(boolean), s3vector_adopt() FROM PUBLIC;
