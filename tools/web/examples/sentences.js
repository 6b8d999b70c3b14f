// Sentence similarity: WordPiece, a BERT-like model in a worker, means of vectors, products.
import { WordPiece } from './dist/index.js';
import { InferenceSession } from './dist/worker.js';

const $ = (id) => document.getElementById(id);
let [session, words] = [];

const say = (text, error = false) => {
  $('status').textContent = text;
  $('status').classList.toggle('error', error);
};
const megabytes = (n) => `${(n / 1e6).toFixed(1)} MB`;

async function load(model, vocabulary) {
  $('load').disabled = true;
  $('compare').disabled = true;
  try {
    await session?.release();
    session = undefined;
    say('Loading the vocabulary…');
    words = await WordPiece.create(await vocabulary());
    session = await InferenceSession.create(model, {
      onProgress({ phase, loaded, total }) {
        $('progress').value = phase === 'prepare' ? 1 : loaded / (total || 3e7);
        say(phase === 'prepare' ? 'Making it ready…' : `${megabytes(loaded)} of the model`);
      },
    });
    say(`Ready: ${megabytes(session.weightBytes)} of weights.`);
    $('compare').disabled = false;
    await compare();
  } catch (error) {
    say(error.message, true);
  } finally {
    $('load').disabled = false;
  }
}

$('load').addEventListener('click', () =>
  load($('model').value, async () => {
    const response = await fetch($('words').value);
    if (!response.ok) throw new Error(`${$('words').value}: status ${response.status}`);
    return response.text();
  }),
);

$('files').addEventListener('change', ({ target }) => {
  const files = [...target.files];
  const model = files.find(({ name }) => name.endsWith('.onnx'));
  const vocabulary = files.find(({ name }) => /\.(json|txt)$/.test(name));
  if (!model || !vocabulary) {
    say('Choose two files: the model (.onnx), and tokenizer.json or vocab.txt.', true);
    return;
  }
  load(model, () => vocabulary.text());
});

/** A vector of length one for each sentence. */
async function vectors(texts) {
  const feeds = words.feeds(texts, 128);
  const mask = feeds.attention_mask;
  const given = Object.fromEntries(
    Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)),
  );
  const made = await session.run(given);
  const out = made.sentence_embedding ?? made.last_hidden_state ?? made[session.outputNames[0]];
  const size = out.dims.at(-1);
  const numbers = out.toNumbers();
  const [rows, length] = mask.dims;
  return Array.from({ length: rows }, (_, i) => {
    const sum = new Float64Array(size);
    for (let j = 0; j < (out.dims.length === 3 ? length : 1); j += 1) {
      if (out.dims.length === 3 && mask.data[i * length + j] === 0n) continue;
      const at = out.dims.length === 3 ? (i * length + j) * size : i * size;
      for (let k = 0; k < size; k += 1) sum[k] += numbers[at + k];
    }
    const long = Math.hypot(...sum);
    return sum.map((x) => x / (long || 1));
  });
}

async function compare() {
  const texts = $('text')
    .value.split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
  if (texts.length < 2) {
    say('Write at least two lines.', true);
    return;
  }
  $('compare').disabled = true;
  try {
    const began = performance.now();
    const [first, ...others] = await vectors(texts);
    const ms = performance.now() - began;
    const product = (v) => v.reduce((sum, x, i) => sum + x * first[i], 0);
    const ranked = others.map((v, i) => [texts[i + 1], product(v)]).sort((a, b) => b[1] - a[1]);
    $('found').replaceChildren(
      ...ranked.map(([text, score], i) => {
        const row = document.createElement('li');
        row.classList.toggle('best', i === 0);
        const parts = [document.createElement('span'), document.createElement('span')];
        [parts[0].textContent, parts[1].textContent] = [text, score.toFixed(3)];
        row.append(...parts);
        return row;
      }),
    );
    say(`${texts.length} sentences in ${ms.toFixed(0)} ms.`);
  } catch (error) {
    say(error.message, true);
  } finally {
    $('compare').disabled = false;
  }
}
$('compare').addEventListener('click', compare);
