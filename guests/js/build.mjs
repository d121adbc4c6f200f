// Usage: node build.mjs SOURCE.js OUTPUT.wasm [WORLD]
//
// Makes a component of a worker in JavaScript. Every WASI feature of the engine is left out but
// standard output (which is the worker's log): what a component does not import, nobody has to grant.

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
  disableFeatures: ['http', 'fetch-event', 'random', 'clocks'],
});
await writeFile(output, component);
