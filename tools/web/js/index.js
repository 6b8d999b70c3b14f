// rinfer in the browser: ONNX models, with the names that users of onnxruntime-web know.

// What the others import is named here, too, so that browsers ask for all of it at once.
import './gpu.js';
import './image.js';
import './source.js';
import { engine, env, memoryInUse } from './engine.js';
import { RinferError } from './errors.js';
import { InferenceSession } from './session.js';
import { Tensor } from './tensor.js';
import { WordPiece } from './tokenizer.js';

export { InferenceSession, RinferError, Tensor, WordPiece, env, memoryInUse };

/** Loads the engine before a session needs it; gives its version. */
export async function ready() {
  return (await engine()).call((glue) => glue.version());
}

export default { InferenceSession, RinferError, Tensor, WordPiece, env, memoryInUse, ready };
