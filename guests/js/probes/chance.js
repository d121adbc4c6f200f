// What a worker has of time and chance, for a test: all of it is the host's, for each instance anew.

const read = (bytes) => JSON.parse(new TextDecoder().decode(bytes));
const write = (value) => new TextEncoder().encode(JSON.stringify(value));

const asked = {
  // Milliseconds since 1970.
  date: () => Date.now(),
  // Milliseconds that pass while it computes.
  passed: () => {
    const begun = performance.now();
    let sum = 0;
    for (let n = 0; n < 3_000_000; n += 1) sum += n % 7;
    return sum > 0 ? performance.now() - begun : -1;
  },
  random: () => Math.random(),
  uuid: () => crypto.randomUUID(),
};

export const handler = {
  handleCall: (_call, request) => write(asked[read(request)]()),
  handleCast() {},
  handleInfo() {},
};
