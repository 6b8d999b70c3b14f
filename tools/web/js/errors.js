// The one class of errors that this package throws.

/** What went wrong, in one sentence; `kind` says what kind of thing it is. */
export class RinferError extends Error {
  /**
   * @param {import('./index.js').ErrorKind} kind
   * @param {string} message
   * @param {{node?: string, op?: string, cause?: unknown}} [more]
   */
  constructor(kind, message, more = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    // What is stopped by a signal looks as the platform's own functions have it.
    this.name = kind === 'cancelled' ? 'AbortError' : 'RinferError';
    this.kind = kind;
    if (more.node !== undefined) this.node = more.node;
    if (more.op !== undefined) this.op = more.op;
  }

  /** An error of the engine, or of anything, as one of these. */
  static from(error) {
    if (error instanceof RinferError) return error;
    const { kind = 'internal', node, op } = error ?? {};
    return new RinferError(kind, error?.message ?? String(error), { node, op, cause: error });
  }
}

/** `signal` as an error, if it is aborted. */
export function checkSignal(signal, what) {
  if (signal?.aborted) {
    throw new RinferError('cancelled', `${what} was cancelled`, { cause: signal.reason });
  }
}
