/** What kind of thing went wrong. */
export type ErrorKind =
  /** The model or an input breaks ONNX's rules; an argument is no good. */
  | 'invalid'
  /** Allowed by ONNX, but not something this engine does. */
  | 'unsupported'
  /** A limit, or the memory that there is, would be exceeded. */
  | 'limit'
  /** A signal stopped it. */
  | 'cancelled'
  /** It took longer than it was allowed to. */
  | 'deadline'
  /** No provider that was asked for is there. */
  | 'device'
  /** The session went down with the engine that it lived in: create it again. */
  | 'lost'
  /** A defect of this engine. */
  | 'internal';

/** What every function here throws. */
export class RinferError extends Error {
  constructor(
    kind: ErrorKind,
    message: string,
    more?: { node?: string; op?: string; cause?: unknown },
  );
  readonly kind: ErrorKind;
  /** The node at which it happened. */
  readonly node?: string;
  /** Its operator. */
  readonly op?: string;
  static from(error: unknown): RinferError;
}

type Half = typeof globalThis extends { Float16Array: { prototype: infer T } } ? T : never;

interface DataTypes {
  float32: Float32Array;
  float64: Float64Array;
  /** The bits. */
  float16: Uint16Array;
  /** The bits. */
  bfloat16: Uint16Array;
  int8: Int8Array;
  int16: Int16Array;
  int32: Int32Array;
  int64: BigInt64Array;
  uint8: Uint8Array;
  uint16: Uint16Array;
  uint32: Uint32Array;
  uint64: BigUint64Array;
  bool: Uint8Array;
  string: string[];
  /** Two in a byte, the first in the low bits. */
  int4: Int8Array;
  uint4: Uint8Array;
  /** Four in a byte. */
  int2: Int8Array;
  uint2: Uint8Array;
  float4e2m1: Uint8Array;
  float8e4m3fn: Uint8Array;
  float8e4m3fnuz: Uint8Array;
  float8e5m2: Uint8Array;
  float8e5m2fnuz: Uint8Array;
  float8e8m0: Uint8Array;
  /** Real and imaginary parts in turn. */
  complex64: Float32Array;
  complex128: Float64Array;
}

export type TensorType = keyof DataTypes;
export type TensorData = DataTypes[TensorType];

/** What an image becomes. */
export interface ImageOptions {
  resizedWidth?: number;
  resizedHeight?: number;
  /** Default `RGB`. */
  tensorFormat?: 'RGB' | 'BGR' | 'RGBA' | 'GRAY';
  /** Default `NCHW`. */
  tensorLayout?: 'NCHW' | 'NHWC';
  /** Default `float32`. */
  dataType?: 'float32' | 'uint8';
  /** y = (pixel + bias) / mean, for floats; defaults 0 and 255; one number, or one a channel. */
  norm?: { mean?: number | number[]; bias?: number | number[] };
}

export type ImageSource =
  | ImageData
  | HTMLImageElement
  | HTMLVideoElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | ImageBitmap
  | Blob
  | string
  | URL;

export class Tensor<T extends TensorType = TensorType> {
  constructor(
    type: T,
    data:
      | DataTypes[T]
      | readonly number[]
      | readonly bigint[]
      | readonly boolean[]
      | readonly string[]
      | Half,
    dims?: readonly number[],
  );
  constructor(
    data: TensorData | readonly string[] | readonly boolean[] | Half,
    dims?: readonly number[],
  );
  readonly type: T;
  readonly dims: readonly number[];
  /** Number of elements. */
  readonly size: number;
  /** `gpu-buffer` for an output that stays on the GPU (`preferredOutputLocation`). */
  readonly location: 'cpu' | 'gpu-buffer' | 'none';
  /** Throws while the data are on the GPU alone. */
  readonly data: DataTypes[T];
  /** The data, brought from the GPU if need be; `release` lets go of the GPU's memory. */
  getData(release?: boolean): Promise<DataTypes[T]>;
  /** Lets go of the data, and of the GPU's memory. */
  dispose(): void;
  reshape(dims: readonly number[]): Tensor<T>;
  /** float16 and bfloat16 as a Float32Array; other types as they are. */
  toNumbers(): Float32Array | DataTypes[T];
  static fromImage(image: ImageSource, options?: ImageOptions): Promise<Tensor>;
}

/** A sequence is an array, a map a `Map`, an optional without content `null`. */
export type OnnxValue = Tensor | OnnxValue[] | Map<string | bigint, OnnxValue> | null;

export type ModelSource =
  | string
  | URL
  | ArrayBufferLike
  | ArrayBufferView
  | Blob
  | Response
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array>;

/** Bounds on what a model may ask for; sizes in bytes, times in milliseconds. */
export interface Limits {
  /** Begin with the limits for models of strangers. */
  untrusted?: boolean;
  modelBytes?: number;
  subgraphDepth?: number;
  nodes?: number;
  rank?: number;
  tensorBytes?: number;
  memory?: number;
  loopIterations?: number;
  runTime?: number;
  stringBytes?: number;
  regexBytes?: number;
  imagePixels?: number;
}

export interface Progress {
  /** Bytes are read; the model is made ready. */
  phase: 'load' | 'prepare';
  /** `model`, or the path of external data. */
  file?: string;
  loaded?: number;
  total?: number;
}

export type OutputLocation = 'cpu' | 'gpu-buffer';

export interface SessionOptions {
  /**
   * The first that is there is used: `webgpu` where the browser gives an adapter, `wasm`
   * everywhere. Default `['wasm']`. What the GPU cannot run the CPU does.
   */
  executionProviders?: readonly (string | { name: string })[];
  /** Where outputs are left; on the GPU a later run takes them as inputs without a copy here. */
  preferredOutputLocation?: OutputLocation | Readonly<Record<string, OutputLocation>>;
  /** Sizes of symbolic dimensions. */
  freeDimensionOverrides?: Readonly<Record<string, number>>;
  /** Files beside the model: `path` as the model names it; a string is both. */
  externalData?: readonly (string | { path: string; data: ModelSource })[];
  limits?: 'untrusted' | Limits;
  /** Values that runs give back instead of the model's outputs; any name in the graph. */
  outputs?: readonly string[];
  graphOptimizationLevel?: 'disabled' | 'basic' | 'extended' | 'layout' | 'all';
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface RunOptions {
  /** Stops this run, and no other. */
  signal?: AbortSignal;
  /** Milliseconds that the run may take. */
  timeout?: number;
  /** Seeds operators that draw random numbers. */
  seed?: number;
}

export interface ValueMetadata {
  readonly name: string;
  readonly isTensor: boolean;
  readonly type: string;
  /** Absent where the model does not say; a string is a symbolic dimension. */
  readonly shape?: readonly (number | string)[];
}

/** What one node took; times in milliseconds. */
export interface NodeTime {
  name: string;
  op: string;
  backend: string;
  start: number;
  duration: number;
  inputs: string[];
  outputs: string[];
  bytes: number;
}

export type Feeds = Readonly<Record<string, OnnxValue>>;
export type Outputs = Record<string, Tensor>;

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
  /** Gives back memory that runs left for later runs. */
  trim(): void;
  /** Lets go of the model. */
  release(): Promise<void>;
}

/** Text to numbers, as BERT and its kin read it. */
export class WordPiece {
  private constructor();
  /** From the text of `vocab.txt`, or of a `tokenizer.json` whose model is WordPiece. */
  static create(text: string, options?: { lowercase?: boolean }): Promise<WordPiece>;
  encode(text: string, most?: number): Uint32Array;
  feeds(
    texts: readonly string[],
    most?: number,
  ): {
    input_ids: Tensor<'int64'>;
    attention_mask: Tensor<'int64'>;
    token_type_ids: Tensor<'int64'>;
  };
}

export const env: {
  wasm: {
    /**
     * Where the .wasm files are: a URL of their folder, of `rinfer.wasm`, or of each. Set it before
     * anything else.
     */
    wasmPaths?:
      | string
      | URL
      | { wasm?: string | URL; threads?: string | URL; webgpu?: string | URL };
    wasmBinary?: ArrayBufferLike | Uint8Array;
    /**
     * Threads that share a run on the CPU: 1 if nothing is said, 0 for one per core. There is one
     * where memory cannot be shared: in pages that are not cross-origin isolated.
     */
    numThreads: number;
    /** Milliseconds that a run goes on before others get their turn; 12 in a page. */
    slice: number;
  };
  webgpu: {
    /** What `rinfer-webgpu.wasm` holds. */
    wasmBinary?: ArrayBufferLike | Uint8Array;
  };
};

/** Loads the engine before a session needs it; gives its version. */
export function ready(): Promise<string>;
/** Bytes of WebAssembly memory in use. */
export function memoryInUse(): number;
