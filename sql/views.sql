CREATE VIEW s3vector_stat_graphs AS SELECT * FROM s3vector_graphs();
COMMENT ON VIEW s3vector_stat_graphs IS 'index graphs in shared memory, and those being loaded';

CREATE VIEW s3vector_stat_cache AS SELECT * FROM s3vector_cache();
COMMENT ON VIEW s3vector_stat_cache IS 'the cache of vectors fetched from storage';

CREATE VIEW s3vector_stat_worker AS SELECT * FROM s3vector_worker();
COMMENT ON VIEW s3vector_stat_worker IS 'the storage worker: requests, bytes, errors';
