/** As in `@rinfer/web`; everything that sessions do is done in a worker. */
export { InferenceSession, RinferError, Tensor, env } from './index.js';

/** Ends the worker with everything in it; the next session starts another. */
export function terminate(): void;
