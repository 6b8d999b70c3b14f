import type {
  Feeds,
  ModelSource,
  NodeTime,
  Outputs,
  OnnxValue,
  RunOptions,
  SessionOptions,
  ValueMetadata,
} from './index.js';

export { RinferError, Tensor, env } from './index.js';

/** As in `@rinfer/web`; everything is done in a worker. */
export class InferenceSession {
  private constructor();
  static create(source: ModelSource, options?: SessionOptions): Promise<InferenceSession>;
  static create(
    buffer: ArrayBufferLike,
    byteOffset: number,
    byteLength?: number,
    options?: SessionOptions,
  ): Promise<InferenceSession>;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly inputMetadata: readonly ValueMetadata[];
  readonly outputMetadata: readonly ValueMetadata[];
  readonly weightBytes: number;
  /** The provider that was taken. */
  readonly executionProvider: 'webgpu' | 'wasm';
  run(feeds: Feeds, options?: RunOptions): Promise<Outputs>;
  run(
    feeds: Feeds,
    fetches: readonly string[] | Readonly<Record<string, OnnxValue>>,
    options?: RunOptions,
  ): Promise<Outputs>;
  profile(feeds: Feeds, options?: RunOptions): Promise<{ outputs: Outputs; nodes: NodeTime[] }>;
  release(): Promise<void>;
}

/** Ends the worker with everything in it; the next session starts another. */
export function terminate(): void;
