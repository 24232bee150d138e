// Packages lie in the cache folder, not beside these scripts, where an import would look for them.

import {createRequire} from 'node:module';
import {join} from 'node:path';
import {pathToFileURL} from 'node:url';

const folder = process.env.S3VECTOR_NODE_MODULES;
if (!folder) throw new Error('S3VECTOR_NODE_MODULES is not set: see scripts/env.sh');
const installed = createRequire(join(folder, 'none.js'));

/** Imports a package, or a part of one. */
export async function load(name) {
  return import(pathToFileURL(installed.resolve(name)));
}
