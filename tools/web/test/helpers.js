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

/** How long `f` takes, and how long everything else waits for its turn meanwhile, longest first. */
export async function pauses(f) {
  const waits = [];
  let [last, on] = [performance.now(), true];
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    waits.push(performance.now() - last);
    last = performance.now();
    if (on) port2.postMessage(0);
  };
  port2.postMessage(0);
  const began = performance.now();
  await f();
  const took = performance.now() - began;
  on = false;
  waits.sort((a, b) => b - a);
  const longest = waits.slice(0, 3).map((x) => x.toFixed(1));
  // Other programs have this machine too: the longest few may be theirs.
  return { took, turns: waits.length, pause: waits[3] ?? 0, text: `${longest.join(', ')} ms` };
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
