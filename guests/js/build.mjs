// Usage: node build.mjs SOURCE.js OUTPUT.wasm [WORLD]
//
// Makes a component of a worker in JavaScript. Left out are the engine's HTTP and its fetch event, which nobody grants.
// Clocks and chance stay: without them the engine keeps the moment and the seed of this build for ever.

import { componentize } from '@bytecodealliance/componentize-js';
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const [source, output, worldName = 'lifecycle-worker'] = process.argv.slice(2);
if (!source || !output) {
  console.error('usage: node build.mjs SOURCE.js OUTPUT.wasm [WORLD]');
  process.exit(2);
}

const { component } = await componentize({
  sourcePath: source,
  witPath: fileURLToPath(new URL('../wit', import.meta.url)),
  worldName,
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile(output, component);
