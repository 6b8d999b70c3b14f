// How long the first answer takes, from nothing: `npm run first [MODEL]`. Each time in a browser of
// its own, whose caches are empty: the scripts, the module and the model are fetched from this
// machine, the module is compiled as it comes, a session is made, and it runs once.
import { launch } from './browser.mjs';
import { serve } from './serve.mjs';

const model = process.argv[2] ?? 'ultraface-rfb-320';
const rounds = Number(process.env.ROUNDS ?? 7);

/** In the page: milliseconds since before the import. */
async function measure([base, name]) {
  const began = performance.now();
  const since = () => performance.now() - began;
  const { InferenceSession, Tensor } = await import(`${base}/dist/index.js`);
  const imported = since();
  const session = await InferenceSession.create(`${base}/trained/${name}/model.onnx`);
  const created = since();
  const feeds = session.inputMetadata.map(({ name: input, type, shape }) => {
    const dims = shape.map((n) => (typeof n === 'number' ? n : 1));
    return [input, new Tensor(type, new Array(dims.reduce((a, b) => a * b, 1)).fill(0), dims)];
  });
  const fed = since();
  await session.run(Object.fromEntries(feeds));
  const first = since();
  await session.run(Object.fromEntries(feeds));
  const second = since();
  return [imported, created, first - (fed - created), second - first];
}

const server = await serve();
const all = [];
for (let i = 0; i < rounds; i += 1) {
  const browser = await launch();
  const page = await browser.open(`${server.url}/test/blank.html`);
  all.push(await page.evaluate(measure, [server.url, model]));
  await browser.close();
}
server.close();
const column = (i) => all.map((row) => row[i]).sort((a, b) => a - b);
const show = (i) => {
  const list = column(i);
  return `${list[list.length >> 1].toFixed(0)} ms (${list[0].toFixed(0)} at best)`;
};
console.log(
  `${model}: imported after ${show(0)}, session after ${show(1)}, first answer after ${show(2)}; ` +
    `a second run takes ${show(3)}`,
);
process.exit(0);
