-- Random data that anybody can make again: each number hangs on a seed and its place alone.

-- A number from 0 to 1 that single precision holds exactly.
CREATE FUNCTION fuzz_unit(seed bigint, place bigint) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (hashint8extended(place, seed) & 65535) / 65536.0::float8
$$;

-- A vector. "uniform": noise; "clusters": noise around 12 centres; "grid": few whole numbers, so that many
-- rows are equally far; "rays": 5 directions and lengths from 1 to 100.
CREATE FUNCTION fuzz_vector(shape text, dimensions int, seed bigint) RETURNS vector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_agg((CASE shape
        WHEN 'uniform' THEN fuzz_unit(seed, place) - 0.5
        WHEN 'clusters' THEN 2 * fuzz_unit(1000 + seed % 12, place) + 0.5 * (fuzz_unit(seed, place) - 0.5)
        WHEN 'grid' THEN floor(4 * fuzz_unit(seed, place)) - 1
        WHEN 'tenths' THEN floor(10 * fuzz_unit(seed, place)) / 10
        WHEN 'rays' THEN power(100, fuzz_unit(seed, 0)) * (fuzz_unit(2000 + seed % 5, place) - 0.5 + 0.1 * (fuzz_unit(seed, place) - 0.5))
        END)::real)::vector
    FROM generate_series(1, dimensions) place
$$;

-- The vector of row `id`: one in thirty is NULL, one in forty zero, and `copies` in a row are equal.
CREATE FUNCTION fuzz_row(shape text, dimensions int, copies int, seed bigint, id bigint) RETURNS vector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN fuzz_unit(seed + 1, id) < 1 / 30.0 THEN NULL
        WHEN fuzz_unit(seed + 2, id) < 1 / 40.0 THEN array_fill(0, ARRAY[dimensions])::vector
        ELSE fuzz_vector(shape, dimensions, abs(hashint8extended(id / copies, seed) % 1000000007)) END
$$;

-- No vector, which the planner does not know.
CREATE FUNCTION fuzz_nothing() RETURNS vector LANGUAGE plpgsql STABLE PARALLEL SAFE AS 'BEGIN RETURN NULL; END';
