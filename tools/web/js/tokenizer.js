// Text to numbers, as BERT's kin read it.

import { engine } from './engine.js';
import { RinferError } from './errors.js';
import { Tensor } from './tensor.js';

/** The vocabulary of a `tokenizer.json`, a piece a line, and whether text becomes lower case. */
function fromJson(text, lowercase) {
  let json;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new RinferError('invalid', `the tokenizer is no JSON: ${error.message}`);
  }
  const { vocab } = json.model ?? {};
  if ((json.model?.type ?? 'WordPiece') !== 'WordPiece' || !vocab) {
    throw new RinferError('unsupported', `the tokenizer is ${json.model?.type}, not WordPiece`);
  }
  const lines = [];
  for (const [piece, id] of Object.entries(vocab)) lines[id] = piece;
  return [lines.join('\n'), lowercase ?? json.normalizer?.lowercase ?? true];
}

export class WordPiece {
  #engine;

  #handle;

  constructor(found) {
    this.#engine = found.engine;
    this.#handle = found.handle;
  }

  /** From the text of `vocab.txt`, or of a `tokenizer.json` whose model is WordPiece. */
  static async create(text, { lowercase } = {}) {
    let [vocabulary, lower] = [text, lowercase ?? true];
    if (text.trimStart().startsWith('{')) [vocabulary, lower] = fromJson(text, lowercase);
    const home = await engine();
    const handle = home.call((glue) => new glue.WordPiece(vocabulary, lower));
    return new WordPiece({ engine: home, handle });
  }

  /** The numbers of one text, `[CLS]` and `[SEP]` around them. */
  encode(text, most = 512) {
    return this.#engine.call(() => this.#handle.encode(text, most));
  }

  /** `{input_ids, attention_mask, token_type_ids}` of several texts, filled up with zeros. */
  feeds(texts, most = 512) {
    const rows = texts.map((text) => this.encode(text, most));
    const length = Math.max(...rows.map((row) => row.length));
    const dims = [rows.length, length];
    const fill = (f) => {
      const data = new BigInt64Array(rows.length * length);
      rows.forEach((row, i) =>
        row.forEach((id, j) => {
          data[i * length + j] = f(id);
        }),
      );
      return new Tensor('int64', data, dims);
    };
    return {
      input_ids: fill((id) => BigInt(id)),
      attention_mask: fill(() => 1n),
      token_type_ids: fill(() => 0n),
    };
  }
}
