// Vectors for the clients' tests, and the truth about their neighbours.

import assert from 'node:assert/strict';

// Enough rows that the planner prefers an index by itself.
export const ROWS = 3000;
export const DIMENSIONS = 48;
export const TOP = 10;
const RECALL_FLOOR = 0.95;

// A generator of numbers in 0..1 that the same seed starts the same (mulberry32).
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), bits | 61)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

function table(random, rows, columns) {
  return Array.from({length: rows}, () => Array.from({length: columns}, () => 2 * random() - 1));
}

// The same centres and directions whatever the seed: queries lie among the rows.
const shape = generator(1);
const centres = table(shape, 32, DIMENSIONS);
const directions = table(shape, 12, DIMENSIONS);

/** Vectors around 32 centres, like embeddings; their elements are exact as float32. */
export function clustered(seed, count) {
  const random = generator(seed);
  return Array.from({length: count}, () => {
    const vector = [...centres[Math.floor(random() * centres.length)]];
    for (const direction of directions) {
      const far = (2 * random() - 1) / 2;
      direction.forEach((value, dimension) => { vector[dimension] += far * value; });
    }
    return vector.map((value) => Math.fround(value + (2 * random() - 1) / 20));
  });
}

const dot = (a, b) => a.reduce((sum, value, dimension) => sum + value * b[dimension], 0);

// The operator class of each metric, its operator and its distance.
export const METRICS = {
  vector_l2_ops: ['<->', (a, b) => Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0))],
  vector_ip_ops: ['<#>', (a, b) => -dot(a, b)],
  vector_cosine_ops: ['<=>', (a, b) => 1 - dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))],
};

/** Compares one answer, [id, distance] in its order, with the exact one. Returns its recall. */
export function checkAnswer(opclass, rows, query, found) {
  const distance = METRICS[opclass][1];
  assert.equal(new Set(found.map(([id]) => id)).size, TOP);
  for (const [position, [id, value]] of found.entries()) {
    assert.ok(rows.has(id), `row ${id} is none of the table's`);
    assert.ok(Math.abs(value - distance(rows.get(id), query)) < 1e-5, `row ${id}: ${value}`);
    assert.ok(position === 0 || found[position - 1][1] <= value, 'the answer is out of order');
  }
  const exact = [...rows.values()].map((row) => distance(row, query)).sort((a, b) => a - b);
  const limit = exact[TOP - 1] + 1e-6;
  return found.filter(([id]) => distance(rows.get(id), query) <= limit).length / TOP;
}

/** Asserts the mean recall of several answers. */
export function checkRecall(recalls) {
  const mean = recalls.reduce((sum, recall) => sum + recall, 0) / recalls.length;
  assert.ok(mean >= RECALL_FLOOR, `recall ${mean}: ${recalls}`);
}
