// The rules of next month: from ten pieces on, twelve per cent off, and from a hundred on, twenty.

import { pricing } from './rules.js';

const discount = (quantity) => (quantity >= 100 ? 0.8 : quantity >= 10 ? 0.88 : 1);

export const { lifecycle, handler, state } = pricing({
  version: 2,
  price: (list, quantity) => Math.round(list * quantity * discount(quantity)),
});
