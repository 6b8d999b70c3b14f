// Draw a digit: strokes on a canvas, the middle of them as 28 × 28 numbers, ten scores.
import { InferenceSession, Tensor } from './dist/index.js';

const $ = (id) => document.getElementById(id);
const pad = $('pad');
const ink = pad.getContext('2d', { willReadFrequently: true });
const small = new OffscreenCanvas(28, 28).getContext('2d', { willReadFrequently: true });

const bars = Array.from({ length: 10 }, (_, digit) => {
  const row = document.createElement('li');
  row.innerHTML = `<span>${digit}</span><span class="bar"><i></i></span><span>–</span>`;
  $('bars').append(row);
  return row;
});

/** The box around what is drawn. */
function box() {
  const { width, height } = pad;
  const { data } = ink.getImageData(0, 0, width, height);
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (data[4 * (y * width + x) + 3] > 20) {
        [left, right] = [Math.min(left, x), Math.max(right, x)];
        [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
      }
    }
  }
  return right < 0 ? undefined : [left, top, right - left + 1, bottom - top + 1];
}

/** What is drawn as the network knows digits: 20 pixels large in the middle of 28. */
function image() {
  const found = box();
  if (!found) return undefined;
  const [x, y, w, h] = found;
  const scale = 20 / Math.max(w, h);
  small.clearRect(0, 0, 28, 28);
  small.imageSmoothingQuality = 'high';
  small.drawImage(
    pad,
    x,
    y,
    w,
    h,
    14 - (w * scale) / 2,
    14 - (h * scale) / 2,
    w * scale,
    h * scale,
  );
  const { data } = small.getImageData(0, 0, 28, 28);
  return Float32Array.from({ length: 784 }, (_, i) => data[4 * i + 3]);
}

const session = await InferenceSession.create('./models/mnist.onnx');
const [input] = session.inputNames;
const [output] = session.outputNames;
$('status').textContent = 'Ready: draw.';

async function read() {
  const pixels = image();
  if (!pixels) return;
  const began = performance.now();
  const made = await session.run({ [input]: new Tensor('float32', pixels, [1, 1, 28, 28]) });
  const ms = performance.now() - began;
  const scores = made[output].data;
  const top = Math.max(...scores);
  const powers = Array.from(scores, (x) => Math.exp(x - top));
  const sum = powers.reduce((a, b) => a + b);
  const best = powers.indexOf(Math.max(...powers));
  bars.forEach((row, digit) => {
    const share = powers[digit] / sum;
    row.classList.toggle('best', digit === best);
    row.querySelector('i').style.width = `${100 * share}%`;
    row.lastElementChild.textContent = `${(100 * share).toFixed(1)} %`;
  });
  $('answer').textContent = best;
  $('status').textContent = `Read in ${ms.toFixed(1)} ms.`;
}

let last;
const point = (event) => {
  const { left, top, width, height } = pad.getBoundingClientRect();
  return [
    ((event.clientX - left) * pad.width) / width,
    ((event.clientY - top) * pad.height) / height,
  ];
};

function stroke(from, to) {
  Object.assign(ink, { lineWidth: 22, lineCap: 'round', lineJoin: 'round', strokeStyle: '#fff' });
  ink.beginPath();
  ink.moveTo(...from);
  ink.lineTo(to[0] + 0.01, to[1]);
  ink.stroke();
}

pad.addEventListener('pointerdown', (event) => {
  pad.setPointerCapture(event.pointerId);
  last = point(event);
  stroke(last, last);
});
pad.addEventListener('pointermove', (event) => {
  if (!last) return;
  const next = point(event);
  stroke(last, next);
  last = next;
});
for (const end of ['pointerup', 'pointercancel']) {
  pad.addEventListener(end, () => {
    last = undefined;
    read();
  });
}

function clear() {
  ink.clearRect(0, 0, pad.width, pad.height);
  bars.forEach((row) => {
    row.classList.remove('best');
    row.querySelector('i').style.width = '0';
    row.lastElementChild.textContent = '–';
  });
  $('answer').textContent = '–';
  $('status').textContent = 'Ready: draw.';
}
$('clear').addEventListener('click', clear);
$('sample').addEventListener('click', () => {
  clear();
  const arc = (cx, cy, r, from, to) =>
    Array.from({ length: 24 }, (_, i) => {
      const a = from + ((to - from) * i) / 23;
      return [cx + r * Math.cos(a), cy + r * Math.sin(a)];
    });
  const points = [...arc(135, 95, 45, -2.5, 1.45), ...arc(135, 187, 48, -1.5, 2.5)];
  points.slice(1).forEach((to, i) => stroke(points[i], to));
  read();
});
