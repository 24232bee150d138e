// Uses the dictionary's page in Chromium as a person would, with 10,000 definitions loaded and nothing
// of them read from storage yet.
//
// usage: node dictionary_page.mjs ADDRESS SOCKET_FOLDER

import assert from 'node:assert/strict';

import {load} from './modules.mjs';

const {default: {chromium}} = await load('playwright-core');
const {default: pg} = await load('pg');

const [address, socket] = process.argv.slice(2);
const HOSTILE = '<img src=x onerror="window.harmed = true">';
const PATIENCE = 20_000; // milliseconds

const browser = await chromium.launch({
  executablePath: process.env.S3VECTOR_CHROMIUM,
  // It is to talk to the page's server only.
  args: ['--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run',
    '--disable-gpu'],
});
const page = await browser.newPage({viewport: {width: 1200, height: 860}});
page.setDefaultTimeout(PATIENCE);
const errors = [];
page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) errors.push(message.text()); });
page.on('pageerror', (error) => errors.push(String(error)));
page.on('request', (request) => {
  if (!request.url().startsWith('data:') && !request.url().startsWith(address)) errors.push(request.url());
});

const answers = page.locator('#answers li');
const words = page.locator('.words');
const parts = page.locator('.part');
const brief = page.locator('#brief');

/** Waits for the answers to `text` that `part` lets pass. */
async function answered(text, part = '') {
  await page.waitForFunction(([text, part]) => {
    const parts = [...document.querySelectorAll('.part')].map((element) => element.textContent);
    return document.getElementById('status').textContent.endsWith(`“${text}”`)
      && parts.every((found) => part === '' || found === part);
  }, [text, part]);
}

async function ask(text) {
  await page.fill('#query', text);
  await page.keyboard.press('Enter');
  await answered(text);
}

// The page as it opens.
await page.goto(address);
await page.locator('#about', {hasText: '10,000 definitions of WordNet'}).waitFor();
assert.equal(await page.locator('#suggestions button').count(), 6);
assert.ok(await page.evaluate(() => document.activeElement.id === 'query'), 'the search box has no focus');

// Typing alone asks.
const question = 'instrument with six strings';
await page.keyboard.type(question);
await answered(question);
assert.equal(await answers.count(), 12);
assert.equal(await words.first().textContent(), 'guitar');
assert.equal(await parts.first().textContent(), 'noun');
assert.match(await page.locator('.gloss').first().textContent(), /^a stringed instrument usually having six strings/);
const scores = (await page.locator('.score').allTextContents()).map(Number);
assert.ok(scores[0] > 0.7 && scores[0] < 0.8, `${scores}`);
assert.deepEqual(scores, [...scores].sort((a, b) => b - a));

// What it took: the first time, vectors come from storage.
assert.match(await brief.textContent(), /^ · [\d.]+ ms, \d+ of 10,000 compared, \d+ requests? to storage$/);
const cost = page.locator('#cost');
assert.match(await cost.textContent(), /10,000definitions in the collection.*candidates, by the graph in memory \(1 segment\)/);
assert.match(await cost.textContent(), /\d+ requests? to storage, [\d.]+ [kM]B, in 1 wave$/);

// Another part of speech, by mouse and by keyboard; it stays in the address.
await page.getByLabel('verbs', {exact: true}).click();
await answered(question, 'verb');
assert.ok(await answers.count() > 0 && !(await words.allTextContents()).includes('guitar'));
assert.match(page.url(), /\?q=instrument\+with\+six\+strings&part=verb$/);
await page.keyboard.press('ArrowRight');
await answered(question, 'adjective');
await page.reload();
await answered(question, 'adjective');
assert.equal(await page.inputValue('#query'), question);

// The same again, from memory.
await page.getByLabel('any word').click();
await page.locator('.words', {hasText: /^guitar$/}).waitFor();
assert.match(await brief.textContent(), /compared, no request to storage$/);
assert.match(await cost.textContent(), /\d+ from memoryno request to storage$/);

// Arrows go through the answers, Enter searches for the definition of one.
await page.focus('#query');
await page.keyboard.press('ArrowDown');
await page.keyboard.press('ArrowDown');
await page.keyboard.press('ArrowUp');
const gloss = await page.locator('.gloss').first().textContent();
await page.keyboard.press('Enter');
await answered(gloss);
assert.equal(await page.inputValue('#query'), gloss);
assert.equal(await words.first().textContent(), 'guitar');

// Markup is text, where somebody types it and where a definition holds it.
await ask(HOSTILE);
const client = new pg.Client({host: socket, user: 'postgres', database: 'postgres'});
await client.connect();
await client.query(`SELECT s3vector.add_vectors('dictionary', ARRAY[embedding], ARRAY[$1::jsonb], ARRAY['hostile'])
  FROM dictionary WHERE metadata @> '{"words": ["guitar"]}' LIMIT 1`, [{words: [HOSTILE], part: HOSTILE, gloss: HOSTILE}]);
await client.end();
await ask(question);
const row = answers.filter({hasText: HOSTILE});
assert.equal(await row.count(), 1);
for (const shown of ['.words', '.part', '.gloss']) assert.equal(await row.locator(shown).textContent(), HOSTILE);
assert.match(await cost.textContent(), /1new ones, read one by one/);
assert.equal(await page.locator('img').count(), 0);
assert.equal(await page.evaluate(() => window.harmed), undefined);

// An empty box is no question.
await page.fill('#query', '');
await page.locator('#suggestions').waitFor();
assert.equal(await answers.count(), 0);
assert.deepEqual(errors, []);

// A server that fails is said to.
await page.route('**/search?*', (route) => route.fulfill({status: 500, body: ''}));
await page.locator('#suggestions button').first().click();
await page.locator('#status.failed', {hasText: 'No answer: the server answered 500'}).waitFor();

await browser.close();
