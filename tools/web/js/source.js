// Where models come from: addresses, bytes, streams, files that a user picked.

import { RinferError, checkSignal } from './errors.js';

/** Pieces in which bytes are handed to the engine. */
const PIECE = 4 * 2 ** 20;

const inNode = typeof process !== 'undefined' && Boolean(process.versions?.node);

/** `{size, pieces}`: how many bytes will come (0: unknown), and an async iterator of them. */
export async function open(source, signal) {
  if (typeof source === 'string' || source instanceof URL) return fetched(source, signal);
  if (typeof Response !== 'undefined' && source instanceof Response) return response(source);
  if (typeof Blob !== 'undefined' && source instanceof Blob) {
    return { size: source.size, pieces: streamed(source.stream()) };
  }
  if (
    source instanceof ArrayBuffer ||
    (typeof SharedArrayBuffer !== 'undefined' && source instanceof SharedArrayBuffer)
  ) {
    return bytes(new Uint8Array(source));
  }
  if (ArrayBuffer.isView(source)) {
    return bytes(new Uint8Array(source.buffer, source.byteOffset, source.byteLength));
  }
  if (source?.getReader || source?.[Symbol.asyncIterator]) {
    return { size: 0, pieces: streamed(source) };
  }
  throw new RinferError(
    'invalid',
    'a model is given as an address, bytes, a Blob, a Response or a stream',
  );
}

function bytes(array) {
  async function* pieces() {
    for (let at = 0; at < array.length; at += PIECE) yield array.subarray(at, at + PIECE);
  }
  return { size: array.length, pieces: pieces() };
}

async function fetched(source, signal) {
  const base = typeof location === 'undefined' ? undefined : location.href;
  const isFile = inNode && !/^(https?|data|blob):/.test(String(source));
  if (isFile) {
    const { open: openFile } = await import('node:fs/promises');
    let file;
    try {
      file = await openFile(
        source instanceof URL
          ? source
          : String(source).startsWith('file:')
            ? new URL(source)
            : source,
      );
    } catch (error) {
      throw new RinferError('invalid', `${source}: ${error.message}`, { cause: error });
    }
    const { size } = await file.stat();
    return { size, pieces: file.createReadStream({ highWaterMark: PIECE }) };
  }
  let answer;
  try {
    answer = await fetch(new URL(source, base), { signal });
  } catch (error) {
    checkSignal(signal, 'loading');
    throw new RinferError('invalid', `${source} cannot be fetched: ${error.message}`, {
      cause: error,
    });
  }
  return response(answer);
}

function response(answer) {
  if (!answer.ok) {
    throw new RinferError('invalid', `${answer.url} cannot be fetched: status ${answer.status}`);
  }
  // The length is that of the packed body where there is an encoding.
  const size = answer.headers.get('content-encoding')
    ? 0
    : Number(answer.headers.get('content-length') ?? 0);
  return { size, pieces: answer.body ? streamed(answer.body) : bytes(new Uint8Array()).pieces };
}

async function* streamed(stream) {
  if (!stream.getReader) {
    for await (const chunk of stream) yield view(chunk);
    return;
  }
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield view(value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function view(chunk) {
  if (chunk instanceof Uint8Array) return chunk;
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk);
  if (ArrayBuffer.isView(chunk)) {
    return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  }
  throw new RinferError('invalid', 'the stream gives what are no bytes');
}
