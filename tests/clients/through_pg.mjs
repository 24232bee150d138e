// npm's pgvector with pg, unmodified, over tables with an s3vector index: creates a table, fills it,
// creates the index, asks, changes rows and asks again, drops it.
//
// usage: node through_pg.mjs SOCKET_FOLDER

import assert from 'node:assert/strict';

import {load} from './modules.mjs';
import {DIMENSIONS, METRICS, ROWS, TOP, checkAnswer, checkRecall, clustered} from './vectors.mjs';

const {default: pg} = await load('pg');
const {default: pgvector} = await load('pgvector/pg');

async function check(client, opclass, rows) {
  const [operator] = METRICS[opclass];
  const sql = `SELECT id, embedding, embedding ${operator} $1 AS distance
               FROM items ORDER BY embedding ${operator} $1 LIMIT ${TOP}`;
  const recalls = [];
  for (const query of clustered(2, 20)) {
    const plan = await client.query(`EXPLAIN ${sql}`, [pgvector.toSql(query)]);
    const lines = plan.rows.map((row) => row['QUERY PLAN']).join('\n');
    assert.match(lines, /Index Scan using items_embedding_idx on/);
    assert.doesNotMatch(lines, /Sort/);
    const answer = await client.query(sql, [pgvector.toSql(query)]);
    for (const {id, embedding} of answer.rows) assert.deepEqual(embedding.map(Math.fround), rows.get(id));
    recalls.push(checkAnswer(opclass, rows, query, answer.rows.map(({id, distance}) => [id, distance])));
  }
  checkRecall(recalls);
}

async function journey(client, opclass) {
  const rows = new Map(clustered(1, ROWS).map((vector, id) => [id, vector]));
  await client.query(`CREATE TABLE items (id integer PRIMARY KEY, embedding vector(${DIMENSIONS}))`);
  await client.query('INSERT INTO items SELECT * FROM unnest($1::int[], $2::vector[])',
    [[...rows.keys()], [...rows.values()].map(pgvector.toSql)]);
  await client.query(`CREATE INDEX ON items USING s3vector (embedding ${opclass})`);
  await client.query('ANALYZE items');
  await check(client, opclass, rows);

  for (const [id, vector] of clustered(3, 100).entries()) {
    rows.set(ROWS + id, vector);
    await client.query('INSERT INTO items VALUES ($1, $2)', [ROWS + id, pgvector.toSql(vector)]);
  }
  for (const [id, vector] of clustered(4, 100).entries()) {
    rows.set(id, vector);
    await client.query('UPDATE items SET embedding = $1 WHERE id = $2', [pgvector.toSql(vector), id]);
  }
  const deleted = await client.query('DELETE FROM items WHERE id BETWEEN 100 AND 199');
  assert.equal(deleted.rowCount, 100);
  for (let id = 100; id < 200; id += 1) rows.delete(id);
  await check(client, opclass, rows);
  await client.query('DROP TABLE items');
}

const client = new pg.Client({host: process.argv[2], user: 'postgres', database: 'postgres'});
await client.connect();
await pgvector.registerTypes(client);
for (const opclass of Object.keys(METRICS)) await journey(client, opclass);
await client.end();
