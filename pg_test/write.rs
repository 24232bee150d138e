//! Rows written after the build.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    #[pg_test]
    fn inserted_rows_of_any_size_are_found_at_once() {
        // 2036 dimensions are the most that fit into one page, 2037 take two.
        for dimensions in [1, 3, 384, 2036, 2037, 4100, 16_000] {
            create(&Table { dimensions, rows: 12 });
            run("CREATE INDEX ix ON items USING s3vector (embedding)");
            insert(&Table { dimensions, rows: 15 }, 100);
            let info = |column: &str| {
                get::<i64>(&format!("SELECT {column} FROM s3vector_index_info('ix')"))
            };
            assert_eq!((info("entries"), info("delta_entries")), (12, 15));
            use_index(true);
            for id in [0, 5, 100, 107, 114] {
                let sql = format!(
                    "SELECT id FROM items ORDER BY embedding <->
                     (SELECT embedding FROM items WHERE id = {id}) LIMIT 1"
                );
                assert_eq!(ids(&sql), [id], "{dimensions} dimensions");
            }
            run("SET LOCAL enable_sort = on");
            assert_eq!(
                ids("SELECT id FROM items ORDER BY embedding <->
                 (SELECT embedding FROM items WHERE id = 5)")
                .len(),
                27
            );
            run("DROP TABLE items");
        }
    }

    #[pg_test]
    fn an_updated_row_is_found_at_its_new_place_only() {
        create(&Table { dimensions: 5, rows: 100 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("UPDATE items SET embedding = '[50,50,50,50,50]' WHERE id = 42");
        use_index(true);
        let far = "SELECT id FROM items ORDER BY embedding <-> '[51,51,51,51,51]' LIMIT 1";
        assert_eq!(ids(far), [42]);
        let all = ids("SELECT id FROM items ORDER BY embedding <-> '[0,0,0,0,0]'");
        assert_eq!(all.iter().filter(|&&id| id == 42).count(), 1);
    }

    #[pg_test]
    fn recall_holds_with_half_of_the_rows_written_later() {
        create(&Table { dimensions: 32, rows: 1000 });
        run("CREATE INDEX ix ON items USING s3vector (embedding vector_cosine_ops)");
        insert(&Table { dimensions: 32, rows: 1000 }, 5000);
        let recall = recall("<=>", 10);
        assert!(recall >= 0.97, "{recall}");
    }

    #[pg_test]
    fn a_rolled_back_insert_is_not_found() {
        create(&Table { dimensions: 4, rows: 10 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("DO $$ BEGIN
                 BEGIN
                     INSERT INTO items VALUES (77, '[9,9,9,9]');
                     RAISE EXCEPTION 'no';
                 EXCEPTION WHEN raise_exception THEN NULL;
                 END;
             END $$");
        use_index(true);
        let all = ids("SELECT id FROM items ORDER BY embedding <-> '[9,9,9,9]'");
        assert_eq!(all.len(), 10);
        assert!(!all.contains(&77));
    }

    /// A statement keeps its rows together before it writes them; a trigger of it finds them all the
    /// same.
    #[pg_test]
    fn triggers_find_the_rows_of_their_statement() {
        create(&Table { dimensions: 3, rows: 10 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("CREATE TABLE seen (id bigint, nearest bigint)");
        run("CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO seen SELECT NEW.id,
                     (SELECT id FROM items ORDER BY embedding <-> NEW.embedding LIMIT 1);
                 RETURN NULL;
             END $$");
        run("CREATE TRIGGER look AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION look()");
        use_index(true);
        insert(&Table { dimensions: 3, rows: 200 }, 100);
        assert_eq!(get::<i64>("SELECT count(*) FROM seen WHERE id = nearest"), 200);
    }

    /// A cursor sees what is inserted after it was opened, when it was opened by the statement itself.
    #[pg_test]
    fn a_cursor_finds_the_rows_of_its_statement() {
        create(&Table { dimensions: 3, rows: 0 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("CREATE TABLE seen (id bigint)");
        run("CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE c refcursor := 'c'; r record;
             BEGIN
                 IF NEW.id = 1 THEN
                     OPEN c FOR SELECT id FROM items ORDER BY embedding <-> '[0,0,0]';
                 ELSIF NEW.id = 50 THEN
                     LOOP
                         FETCH c INTO r;
                         EXIT WHEN NOT FOUND;
                         INSERT INTO seen VALUES (r.id);
                     END LOOP;
                 END IF;
                 RETURN NEW;
             END $$");
        run("CREATE TRIGGER look BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION look()");
        use_index(true);
        run("INSERT INTO items SELECT i, '[1,2,3]' FROM generate_series(1, 60) AS i");
        assert_eq!(get::<i64>("SELECT count(DISTINCT id) FROM seen"), 49);
    }

    /// Parallel workers look for the rows of a statement further out.
    #[pg_test]
    fn parallel_workers_find_the_rows_of_the_statement() {
        create(&Table { dimensions: 3, rows: 10 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("CREATE TABLE seen (id bigint, rows bigint)");
        // Every plan that may is run by a worker.
        run("SET LOCAL debug_parallel_query = on");
        run("CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE found bigint;
             BEGIN
                 SELECT count(*) INTO found FROM
                     (SELECT id FROM items ORDER BY embedding <-> '[0,0,0]') AS everything;
                 INSERT INTO seen VALUES (NEW.id, found);
                 RETURN NULL;
             END $$");
        run("CREATE TRIGGER look AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION look()");
        use_index(true);
        run("INSERT INTO items SELECT 1000 + i, '[1,2,3]' FROM generate_series(1, 40) AS i");
        assert_eq!(get::<i64>("SELECT count(*) FROM seen WHERE rows = 50"), 40);
    }

    #[pg_test]
    fn functions_find_the_rows_inserted_before_their_own() {
        create(&Table { dimensions: 3, rows: 10 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("CREATE FUNCTION so_far() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
                 RETURN (SELECT count(*) FROM
                     (SELECT id FROM items ORDER BY embedding <-> '[1,2,3]') AS all_of_them
                     WHERE id >= 1000);
             END $$");
        use_index(true);
        run("INSERT INTO items SELECT 1000 + so_far(), '[4,5,6]'::vector
             FROM generate_series(1, 100)");
        let found = ids("SELECT id FROM items ORDER BY embedding <-> '[1,2,3]'");
        let mut new: Vec<i64> = found.into_iter().filter(|id| *id >= 1000).collect();
        new.sort_unstable();
        assert_eq!(new, (1000..1100).collect::<Vec<i64>>());
    }

    /// What a statement has not written when it fails is never written: its rows' places in the
    /// table are not its own any more.
    #[pg_test]
    fn rows_of_a_failed_statement_are_forgotten() {
        create(&Table { dimensions: 3, rows: 10 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("DO $$ BEGIN
                 BEGIN
                     INSERT INTO items SELECT 500 + i + 0 / (50 - i), '[7,8,9]'
                     FROM generate_series(1, 100) AS i;
                 EXCEPTION WHEN division_by_zero THEN NULL;
                 END;
                 INSERT INTO items VALUES (600, '[7,8,9]'), (601, '[7,8,9]');
             END $$");
        assert_eq!(get::<i64>("SELECT delta_entries FROM s3vector_index_info('ix')"), 2);
        use_index(true);
        let mut nearest = ids("SELECT id FROM items ORDER BY embedding <-> '[7,8,9]' LIMIT 2");
        nearest.sort_unstable();
        assert_eq!(nearest, [600, 601]);
    }

    #[pg_test]
    fn a_statement_may_insert_into_very_many_partitions() {
        run("CREATE TABLE items (id bigint, embedding vector(3)) PARTITION BY RANGE (id)");
        run("DO $$ BEGIN FOR i IN 0..99 LOOP EXECUTE format(
                 'CREATE TABLE items_%s PARTITION OF items FOR VALUES FROM (%s) TO (%s)',
                 i, i * 10, i * 10 + 10);
             END LOOP; END $$");
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        // Round after round through all of them.
        run("INSERT INTO items SELECT i * 10 + j, format('[%s,%s,1]', i, j)::vector
             FROM generate_series(0, 9) AS j, generate_series(0, 99) AS i");
        use_index(true);
        let all = ids("SELECT id FROM items ORDER BY embedding <-> '[50,5,1]'");
        assert_eq!((all.len(), all[0]), (1000, 505));
    }
}
