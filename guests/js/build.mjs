// Usage: node build.mjs SOURCE.js OUTPUT.wasm [WORLD]
//
// Makes a component of a worker in JavaScript, with a guard around its exports (`guard.mjs`). Left out are the engine's
// HTTP and its fetch event, which nobody grants. Clocks and chance stay: without them the engine keeps the moment and the
// seed of this build for ever.

import { componentize } from '@bytecodealliance/componentize-js';
import { rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { guarded } from './guard.mjs';

const [source, output, worldName = 'lifecycle-worker'] = process.argv.slice(2);
if (!source || !output) {
  console.error('usage: node build.mjs SOURCE.js OUTPUT.wasm [WORLD]');
  process.exit(2);
}

// Beside the source, which may import what lies there.
const sourcePath = join(dirname(source), `.paguro-guard-${process.pid}.js`);
await writeFile(sourcePath, guarded(source));
try {
  const { component } = await componentize({
    sourcePath,
    witPath: fileURLToPath(new URL('../wit', import.meta.url)),
    worldName,
    disableFeatures: ['http', 'fetch-event'],
  });
  await writeFile(output, component);
} finally {
  await rm(sourcePath, { force: true });
}
