// For workers in JavaScript that would rather throw an object than a string.

/// Thrown by an export, it is the contract's `err`: the caller gets `message` as the reason, and the worker carries on. Any
/// other error ends the worker.
export class Rejected extends Error {
  name = 'Rejected';
}
