// Faces in a picture or in what the camera sees: UltraFace, then the best of boxes that overlap.
import { InferenceSession, Tensor } from './dist/worker.js';

const $ = (id) => document.getElementById(id);
const view = $('view');
const paint = view.getContext('2d');
const [WIDTH, HEIGHT] = [320, 240];

const say = (text, error = false) => {
  $('status').textContent = text;
  $('status').classList.toggle('error', error);
};

function overlap(a, b) {
  const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const area = (r) => (r[2] - r[0]) * (r[3] - r[1]);
  const both = Math.max(w, 0) * Math.max(h, 0);
  return both / (area(a) + area(b) - both);
}

/** `[left, top, right, bottom, score]`, from 0 to 1, the surest first. */
export function faces(scores, boxes, sure) {
  const all = [];
  for (let i = 0; i < scores.length / 2; i += 1) {
    const score = scores[2 * i + 1];
    if (score > sure) all.push([...boxes.subarray(4 * i, 4 * i + 4), score]);
  }
  all.sort((a, b) => b[4] - a[4]);
  const kept = [];
  for (const box of all) if (kept.every((other) => overlap(box, other) < 0.3)) kept.push(box);
  return kept;
}

const session = await InferenceSession.create('./models/ultraface-rfb-320.onnx');
say('Choose a picture, or use the camera.');

async function find(source) {
  const input = await Tensor.fromImage(source, {
    resizedWidth: WIDTH,
    resizedHeight: HEIGHT,
    norm: { mean: 128, bias: -127 },
  });
  const began = performance.now();
  const made = await session.run({ [session.inputNames[0]]: input });
  const ms = performance.now() - began;
  const [scores, boxes] = session.outputNames.map((name) => made[name]);
  return { found: faces(scores.data, boxes.data, Number($('sure').value)), ms };
}

function show(source, width, height, found) {
  [view.width, view.height] = [width, height];
  paint.drawImage(source, 0, 0, width, height);
  const line = Math.max(2, width / 250);
  Object.assign(paint, { lineWidth: line, strokeStyle: '#fb923c', fillStyle: '#fb923c' });
  paint.font = `600 ${Math.max(12, width / 45)}px system-ui`;
  for (const [left, top, right, bottom, score] of found) {
    const [x, y] = [left * width, top * height];
    paint.strokeRect(x, y, (right - left) * width, (bottom - top) * height);
    paint.fillText(`${(100 * score).toFixed(0)} %`, x, y - 2 * line);
  }
}

const count = (n) => (n === 1 ? '1 face' : `${n || 'no'} faces`);
let picture;

async function look() {
  if (!picture) return;
  const { found, ms } = await find(picture);
  show(picture, picture.width, picture.height, found);
  say(`${count(found.length)}, found in ${ms.toFixed(0)} ms.`);
}

$('file').addEventListener('change', async ({ target }) => {
  if (!target.files[0]) return;
  stop();
  try {
    picture = await createImageBitmap(target.files[0]);
    await look();
  } catch (error) {
    say(`This is no picture that the browser can show: ${error.message}`, true);
  }
});
$('sure').addEventListener('input', () => {
  $('level').textContent = `${Math.round(100 * $('sure').value)} %`;
  look();
});

let stream;
function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = undefined;
  $('stop').hidden = true;
  $('camera').hidden = false;
}
$('stop').addEventListener('click', stop);

$('camera').addEventListener('click', async () => {
  picture = undefined;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: 'user', width: { ideal: 640 } },
    });
  } catch (error) {
    say(`The camera cannot be used: ${error.message}`, true);
    return;
  }
  $('stop').hidden = false;
  $('camera').hidden = true;
  const video = Object.assign(document.createElement('video'), {
    srcObject: stream,
    muted: true,
    playsInline: true,
  });
  await video.play();
  const mine = stream;
  while (stream === mine) {
    const { found, ms } = await find(video);
    if (stream !== mine) break;
    show(video, video.videoWidth, video.videoHeight, found);
    say(`${count(found.length)}, ${ms.toFixed(0)} ms a picture.`);
    await new Promise(requestAnimationFrame);
  }
});
