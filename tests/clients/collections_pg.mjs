// A collection used from pg: items as JSON, and vectors in pgvector's arrays.
//
// usage: node collections_pg.mjs SOCKET_FOLDER

import assert from 'node:assert/strict';

import {load} from './modules.mjs';
import {DIMENSIONS, ROWS, checkAnswer, checkRecall, clustered} from './vectors.mjs';

const {default: pg} = await load('pg');
const {default: pgvector} = await load('pgvector/pg');

const client = new pg.Client({host: process.argv[2], user: 'postgres', database: 'postgres'});
await client.connect();
await pgvector.registerTypes(client);

/** The first column of the only row. */
async function one(sql, parameters) {
  const {rows} = await client.query({text: sql, values: parameters, rowMode: 'array'});
  assert.equal(rows.length, 1);
  return rows[0][0];
}

async function check(rows, filters) {
  assert.equal(await one("SELECT s3vector.count_vectors('things', $1)::int", [filters]), rows.size);
  const recalls = [];
  for (const query of clustered(2, 20)) {
    const answer = await client.query(
      "SELECT id, score, metadata FROM s3vector.search_vectors('things', $1, $2)", [pgvector.toSql(query), filters]);
    for (const {id, metadata} of answer.rows) {
      assert.equal(id, `thing ${metadata.number}`);
      for (const [key, value] of Object.entries(filters)) assert.equal(metadata[key], value);
    }
    const vectors = new Map([...rows].map(([id, {vector}]) => [id, vector]));
    recalls.push(checkAnswer('vector_l2_ops', vectors, query, answer.rows.map(({id, score}) => [id, 1 / score - 1])));
  }
  checkRecall(recalls);
}

await client.query("SELECT s3vector.create_collection('things', $1, 'l2')", [DIMENSIONS]);
const rows = new Map(clustered(1, ROWS).map((vector, number) =>
  [`thing ${number}`, {id: `thing ${number}`, vector, metadata: {number, even: number % 2 === 0}}]));
const items = [...rows.values()];

const half = items.slice(0, ROWS / 2);
assert.deepEqual(await one("SELECT s3vector.add_vectors('things', $1::jsonb)", [JSON.stringify(half)]),
  half.map(({id}) => id));
const rest = items.slice(ROWS / 2);
assert.deepEqual(
  await one("SELECT s3vector.add_vectors('things', $1::vector[], $2::jsonb[], $3::text[])",
    [rest.map(({vector}) => pgvector.toSql(vector)), rest.map(({metadata}) => metadata), rest.map(({id}) => id)]),
  rest.map(({id}) => id));
await client.query('ANALYZE things');
await check(rows, {});
await check(new Map([...rows].filter(([, {metadata}]) => metadata.even)), {even: true});

const page = await one("SELECT s3vector.search_vectors_page('things', $1, '{}', 5, 10)", [pgvector.toSql(items[7].vector)]);
assert.deepEqual([page.items.length, page.total, page.limit, page.offset], [5, ROWS, 5, 10]);
const [found] = (await client.query("SELECT * FROM s3vector.get_vector('things', 'thing 7')")).rows;
assert.deepEqual([found.vector.map(Math.fround), found.metadata], [items[7].vector, items[7].metadata]);

assert.equal(await one("SELECT s3vector.remove_vectors('things', filters => $1)::int", [{number: [0, 99]}]), 100);
for (let number = 0; number < 100; number += 1) rows.delete(`thing ${number}`);
await check(rows, {});

await assert.rejects(client.query("SELECT * FROM s3vector.search_vectors('things', $1)", ['[1,2,3]']), /dimension/);
await client.query("SELECT s3vector.delete_collection('things')");
assert.equal(await one('SELECT count(*)::int FROM s3vector.list_collections()'), 0);
await client.end();
