// What stands around a worker's exports, so that the host can tell three things apart:
//
// - a string that is thrown, or a `Rejected` of `paguro.js`: the contract's `err`. The worker is well and carries on.
// - anything else that is thrown, or a promise that fails with it: a fault. Its text and stack go to the log, the text is
//   the reason of the worker's end, and its supervisor restarts it.
// - an answer.

import { basename } from 'node:path';

/// The module that is built: it has the exports of the worker in `source`, a file beside it, each of them guarded.
export function guarded(source) {
  return `import * as worker from ${JSON.stringify(`./${basename(source)}`)};
import { log, stop } from 'paguro:worker/control@0.1.0';

// Functions of the contract that have no \`err\`: there a string is a fault as well.
const WITHOUT_ERR = ['terminate', 'check', 'handleCasts'];

function failed(name, error) {
  const isString = typeof error === 'string';
  if (!WITHOUT_ERR.includes(name)) {
    if (isString) throw error;
    if (error?.name === 'Rejected') throw String(error.message);
  }
  let text;
  try {
    text = isString ? error : error instanceof Error ? \`\${error.name}: \${error.message}\` : \`thrown: \${JSON.stringify(error)}\`;
  } catch {
    text = 'thrown: something that has no text';
  }
  log('error', error?.stack ? \`\${text}\\n\${error.stack}\` : text);
  stop({ tag: 'failed', val: text });
  // What is no string ends the instance.
  throw error instanceof Error ? error : new Error(text);
}

function guard(exported) {
  if (exported === undefined) return undefined;
  const guarded = {};
  const names = new Set();
  // An object of a class has its functions above itself.
  for (let at = exported; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const name of Object.getOwnPropertyNames(at)) names.add(name);
  }
  for (const name of names) {
    if (name === 'constructor' || typeof exported[name] !== 'function') continue;
    guarded[name] = (...given) => {
      try {
        const answer = exported[name](...given);
        return typeof answer?.then === 'function' ? answer.then(undefined, (error) => failed(name, error)) : answer;
      } catch (error) {
        failed(name, error);
      }
    };
  }
  return guarded;
}

export const lifecycle = guard(worker.lifecycle);
export const handler = guard(worker.handler);
export const batch = guard(worker.batch);
export const state = guard(worker.state);
export const health = guard(worker.health);
`;
}
