-- The calls of a vector database over ordinary tables: src/collections.
CREATE SCHEMA s3vector;
COMMENT ON SCHEMA s3vector IS 'collections of vectors: functions over ordinary tables';
GRANT USAGE ON SCHEMA s3vector TO PUBLIC;

CREATE FUNCTION s3vector.create_collection(
    name text,
    dimension integer DEFAULT 384,
    distance_metric text DEFAULT 'cosine',
    overwrite boolean DEFAULT false,
    config jsonb DEFAULT '{}'
) RETURNS regclass LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 's3vector_create_collection';
COMMENT ON FUNCTION s3vector.create_collection IS
    'creates a table for vectors with an s3vector index, and a GIN index on their metadata';

CREATE FUNCTION s3vector.delete_collection(collection text)
    RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 's3vector_delete_collection';
COMMENT ON FUNCTION s3vector.delete_collection IS 'drops a collection with all it holds';

CREATE FUNCTION s3vector.add_vectors(
    collection text,
    vectors anyarray,
    metadata anycompatible DEFAULT NULL,
    ids text[] DEFAULT NULL,
    update boolean DEFAULT false
) RETURNS text[] LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 's3vector_add_vectors';
COMMENT ON FUNCTION s3vector.add_vectors(text, anyarray, anycompatible, text[], boolean) IS
    'adds vectors (vector[] or real[][]), or replaces those whose ids are there; returns the ids';

CREATE FUNCTION s3vector.add_vectors(
    collection text,
    items jsonb,
    update boolean DEFAULT false
) RETURNS text[] LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 's3vector_add_items';
COMMENT ON FUNCTION s3vector.add_vectors(text, jsonb, boolean) IS
    'adds vectors given as a JSON array of {id, vector, metadata}; returns the ids';

CREATE FUNCTION s3vector.search_vectors(
    collection text,
    query_vector vector,
    filters jsonb DEFAULT '{}',
    "limit" integer DEFAULT 10,
    "offset" integer DEFAULT 0,
    include_vectors boolean DEFAULT false,
    order_by text DEFAULT NULL
) RETURNS TABLE (id text, score double precision, metadata jsonb, vector vector)
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10
    AS 'MODULE_PATHNAME', 's3vector_search_vectors';
COMMENT ON FUNCTION s3vector.search_vectors IS
    'the nearest vectors whose metadata pass the filter, the nearest first; a greater score is nearer';

CREATE FUNCTION s3vector.search_vectors_page(
    collection text,
    query_vector vector,
    filters jsonb DEFAULT '{}',
    "limit" integer DEFAULT 10,
    "offset" integer DEFAULT 0,
    include_vectors boolean DEFAULT false,
    order_by text DEFAULT NULL
) RETURNS jsonb LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 's3vector_search_vectors_page';
COMMENT ON FUNCTION s3vector.search_vectors_page IS
    'search_vectors as one JSON object {items, total, offset, limit}';

CREATE FUNCTION s3vector.get_vector(collection text, vector_id text)
    RETURNS TABLE (id text, vector vector, metadata jsonb, created_at timestamptz)
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1
    AS 'MODULE_PATHNAME', 's3vector_get_vector';
COMMENT ON FUNCTION s3vector.get_vector IS 'the row with an id; none when there is none';

CREATE FUNCTION s3vector.list_vectors(
    collection text,
    "limit" integer DEFAULT 100,
    after text DEFAULT NULL,
    filters jsonb DEFAULT '{}',
    include_vectors boolean DEFAULT false
) RETURNS TABLE (id text, metadata jsonb, vector vector, created_at timestamptz)
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 100
    AS 'MODULE_PATHNAME', 's3vector_list_vectors';
COMMENT ON FUNCTION s3vector.list_vectors IS
    'rows in order of id; the next page begins after the last id of this one';

CREATE FUNCTION s3vector.remove_vectors(
    collection text,
    ids text[] DEFAULT NULL,
    filters jsonb DEFAULT NULL
) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 's3vector_remove_vectors';
COMMENT ON FUNCTION s3vector.remove_vectors IS
    'deletes rows by id, by filter, or by both; returns how many there were';

CREATE FUNCTION s3vector.count_vectors(collection text, filters jsonb DEFAULT '{}')
    RETURNS bigint LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 's3vector_count_vectors';
COMMENT ON FUNCTION s3vector.count_vectors IS 'how many rows there are, or pass a filter';

CREATE FUNCTION s3vector.list_collections()
    RETURNS TABLE (name text, schema text, owner text, dimension integer, distance_metric text,
                   estimated_vectors bigint, total_bytes bigint)
    LANGUAGE sql STABLE PARALLEL RESTRICTED
BEGIN ATOMIC
    SELECT c.name, c.schema, pg_get_userbyid(t.relowner)::text, c.dimension, c.distance_metric,
           coalesce(nullif(pg_stat_get_live_tuples(t.oid), 0), greatest(t.reltuples, 0)::bigint),
           pg_total_relation_size(t.oid)
    FROM s3vector_collections() c JOIN pg_class t ON t.oid = c.table_oid
    WHERE NOT pg_is_other_temp_schema(t.relnamespace)
      AND has_schema_privilege(t.relnamespace, 'USAGE') AND has_any_column_privilege(t.oid, 'SELECT')
    ORDER BY c.name, c.schema;
END;
COMMENT ON FUNCTION s3vector.list_collections IS
    'the collections of this database that the user may read';

CREATE FUNCTION s3vector.get_collection_info(collection text)
    RETURNS TABLE (name text, schema text, owner text, dimension integer, distance_metric text,
                   vectors bigint, segments integer, delta_rows bigint, table_bytes bigint,
                   resident_bytes bigint, storage_bytes bigint, config jsonb)
    LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 1
BEGIN ATOMIC
    SELECT c.name, c.schema, pg_get_userbyid(t.relowner)::text, c.dimension, c.distance_metric,
           s3vector.count_vectors($1), i.segments, i.delta_entries, pg_table_size(t.oid),
           i.resident_bytes, i.storage_bytes,
           jsonb_build_object('m', i.m, 'ef_construction', i.ef_construction, 'bits', i.bits,
                              'payload', i.payload, 'compression', i.compression,
                              'chunk_rows', i.chunk_rows, 'shard_rows', i.shard_rows)
    FROM s3vector_collections($1) c
    JOIN pg_class t ON t.oid = c.table_oid
    CROSS JOIN LATERAL s3vector_index_info(c.index_oid::regclass) i;
END;
COMMENT ON FUNCTION s3vector.get_collection_info IS
    'what a collection is, how many vectors it has, and what it takes';

CREATE FUNCTION s3vector.import_zarr(
    url text,
    collection text,
    "array" text DEFAULT 'vectors',
    ids text DEFAULT NULL,
    metadata text DEFAULT NULL,
    distance_metric text DEFAULT 'cosine'
) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 's3vector_import_zarr';
COMMENT ON FUNCTION s3vector.import_zarr IS
    'adds the rows of a Zarr array to a collection, which is created if there is none';

CREATE FUNCTION s3vector.import_collection(url text, name text)
    RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 's3vector_import_collection';
COMMENT ON FUNCTION s3vector.import_collection IS
    'creates a collection from one that the older S3 and Zarr engine wrote';

CREATE FUNCTION s3vector.export_zarr(collection text, url text)
    RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 's3vector_export_zarr';
COMMENT ON FUNCTION s3vector.export_zarr IS
    'writes vectors, ids and metadata of a collection as a Zarr group';

-- They read and write where the server may: for superusers and those whom a superuser grants it.
REVOKE ALL ON FUNCTION s3vector.import_zarr, s3vector.import_collection, s3vector.export_zarr
    FROM PUBLIC;
