// What a price is made of, whatever the rules are: the worker around them.

import { log } from 'paguro:worker/control@0.1.0';

const SCHEMA = 1;

const read = (bytes) => JSON.parse(new TextDecoder().decode(bytes));
const write = (value) => new TextEncoder().encode(JSON.stringify(value));

/// Makes the exports of a worker out of `price(list, quantity)`.
export function pricing({ version, price }) {
  // The state: the price list, in cents, and how many quotes were given.
  let state = { list: {}, quotes: 0 };

  const requests = {
    quote({ item, quantity = 1 }) {
      const list = state.list[item];
      if (list === undefined) throw `no price for ${item}`;
      state.quotes += 1;
      return { item, quantity, version, cents: price(list, quantity) };
    },
    set({ item, cents }) {
      state.list[item] = cents;
      return state.list[item];
    },
    get() {
      return { version, ...state };
    },
  };

  // A request is {"name": content}, or the bare word `name`.
  function handle(bytes) {
    let request;
    try {
      request = read(bytes);
    } catch {
      request = new TextDecoder().decode(bytes).trim();
    }
    const [name, content] =
      typeof request === 'string' ? [request, {}] : (Object.entries(request ?? {})[0] ?? ['']);
    if (!Object.hasOwn(requests, name)) throw `not one of ${Object.keys(requests)}: ${name}`;
    return requests[name](content ?? {});
  }

  return {
    lifecycle: {
      init({ config }) {
        state.list = JSON.parse(config || '{}').list ?? {};
      },
      resume() {},
      terminate() {},
    },
    handler: {
      handleCall: (_call, request) => write(handle(request)),
      handleCast: (message) => void handle(message),
      handleInfo() {},
    },
    state: {
      saveState: () => ({ schema: SCHEMA, mediaType: 'application/json', data: write(state) }),
      restoreState({ data }) {
        state = read(data);
        log('debug', `${version}: ${Object.keys(state.list).length} prices restored`);
      },
      upgradeState(old) {
        if (old.schema !== SCHEMA) throw `schema ${old.schema} is not known, only ${SCHEMA}`;
        return old;
      },
    },
  };
}
