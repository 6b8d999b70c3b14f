// The package in Node: files by path, the same answers.
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { readFileSync } from 'node:fs';
import { root } from './serve.mjs';

const load = () => import(new URL('../dist/index.js', import.meta.url));
const digits = join(root, 'tests/models/digits/model.onnx');

export const nodeTests = {
  async files() {
    const { InferenceSession, Tensor } = await load();
    const feed = { image: new Tensor('float32', new Float32Array(64).fill(1), [1, 1, 8, 8]) };
    const found = [];
    for (const source of [digits, pathToFileURL(digits), readFileSync(digits)]) {
      const session = await InferenceSession.create(source);
      found.push((await session.run(feed)).scores.data.join());
      await session.release();
    }
    if (new Set(found).size !== 1) throw new Error(found.join('\n'));
    return 'a path, a URL, bytes';
  },

  async trained(url) {
    const rinfer = await load();
    const { trained } = await import('./page.js');
    return trained(rinfer, url);
  },

  async threads(url) {
    const rinfer = await load();
    const { same } = await import('./threads.js');
    globalThis.crossOriginIsolated = true;
    const line = await same(rinfer, url);
    rinfer.env.wasm.numThreads = 1;
    return line;
  },

  async words() {
    const { WordPiece } = await load();
    const vocabulary = [
      '[PAD]',
      '[UNK]',
      '[CLS]',
      '[SEP]',
      'the',
      'quick',
      'fox',
      '##es',
      'un',
      '##aff',
      '##able',
      ',',
      '!',
      'cafe',
      '中',
    ].join('\n');
    const words = await WordPiece.create(vocabulary);
    const cases = {
      'The quick foxes': [2, 4, 5, 6, 7, 3],
      'unaffable, CAFÉ!': [2, 8, 9, 10, 11, 13, 12, 3],
      'xyz 中the\n': [2, 1, 14, 4, 3],
      '': [2, 3],
    };
    for (const [text, ids] of Object.entries(cases)) {
      const found = [...words.encode(text)];
      if (found.join() !== ids.join()) throw new Error(`${text}: ${found}`);
    }
    const { input_ids: ids, attention_mask: mask } = words.feeds(['the fox', 'the']);
    if (ids.dims.join() !== '2,4' || mask.data.join() !== '1,1,1,1,1,1,1,0') {
      throw new Error(`${ids.data} ${mask.data}`);
    }
    return 'text is cut as BERT cuts it';
  },

  async types() {
    const text = readFileSync(
      fileURLToPath(new URL('../dist/index.d.ts', import.meta.url)),
      'utf8',
    );
    const names = Object.keys(await load()).filter((name) => name !== 'default');
    const missing = names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text));
    if (missing.length > 0) throw new Error(`index.d.ts does not have ${missing}`);
    return `${names.length} names`;
  },
};
