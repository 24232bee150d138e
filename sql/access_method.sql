CREATE FUNCTION s3vector_handler(internal) RETURNS index_am_handler
    LANGUAGE c STRICT AS 'MODULE_PATHNAME';

CREATE ACCESS METHOD s3vector TYPE INDEX HANDLER s3vector_handler;
COMMENT ON ACCESS METHOD s3vector IS
    'vector index: HNSW graph in shared memory, vectors on S3 as Zarr arrays';

CREATE OPERATOR CLASS vector_l2_ops
    DEFAULT FOR TYPE vector USING s3vector AS
    OPERATOR 1 <-> (vector, vector) FOR ORDER BY float_ops,
    FUNCTION 1 s3vector_metric_l2();

CREATE OPERATOR CLASS vector_ip_ops
    FOR TYPE vector USING s3vector AS
    OPERATOR 1 <#> (vector, vector) FOR ORDER BY float_ops,
    FUNCTION 1 s3vector_metric_ip();

CREATE OPERATOR CLASS vector_cosine_ops
    FOR TYPE vector USING s3vector AS
    OPERATOR 1 <=> (vector, vector) FOR ORDER BY float_ops,
    FUNCTION 1 s3vector_metric_cosine();
