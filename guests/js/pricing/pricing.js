// The rules of this month: from ten pieces on, ten per cent off.

import { pricing } from './rules.js';

export const { lifecycle, handler, state } = pricing({
  version: 1,
  price: (list, quantity) => Math.round(list * quantity * (quantity >= 10 ? 0.9 : 1)),
});
