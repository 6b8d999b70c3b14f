// What tests in pages are made of.
import { different } from './compare.js';
import { read } from './pb.js';

export const bytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
export const list = async (url) => (await fetch(`${url}?list`)).json();

export function check(holds, text) {
  if (!holds) throw new Error(text);
}

export async function fails(kind, f) {
  let found = 'nothing';
  try {
    await f();
  } catch (error) {
    if (error.kind === kind) return error;
    found = `${error.kind}: ${error.message}`;
  }
  throw new Error(`an error of kind ${kind} was expected, there is ${found}`);
}

/** Feeds and expected outputs of a folder in ONNX's layout. */
export async function data(rinfer, folder, session) {
  const files = (await list(`${folder}/test_data_set_0`)).filter((name) => name.endsWith('.pb'));
  const order = (name) => Number(name.match(/\d+/)[0]);
  const all = (prefix) =>
    files.filter((name) => name.startsWith(prefix)).sort((a, b) => order(a) - order(b));
  const load = async (names, ports) =>
    Promise.all(
      names.map(async (file, i) => {
        const content = await bytes(`${folder}/test_data_set_0/${file}`);
        const { type } = ports[order(file)] ?? ports[i] ?? {};
        const { name, value } = read(content, type, rinfer.Tensor);
        return [ports.find((port) => port.name === name)?.name ?? ports[order(file)]?.name, value];
      }),
    );
  const feeds = Object.fromEntries(await load(all('input'), session.inputMetadata));
  const outputs = await load(all('output'), session.outputMetadata);
  return { feeds, outputs };
}

/** What is different from what a folder expects, or undefined; `also` is done before the end. */
export async function folder(rinfer, url, options = {}, also = undefined) {
  const session = await rinfer.InferenceSession.create(await bytes(`${url}/model.onnx`), options);
  try {
    const { feeds, outputs } = await data(rinfer, url, session);
    const made = await session.run(feeds);
    for (const [name, expected] of outputs) {
      const text = different(made[name], expected);
      if (text) return `${name}: ${text}`;
    }
    await also?.(session, feeds);
    return undefined;
  } finally {
    await session.release();
  }
}
