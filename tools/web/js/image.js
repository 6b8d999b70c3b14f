// Images as numbers: pixels read, resized, normalized and laid out.

import { RinferError } from './errors.js';

function canvas(width, height) {
  if (typeof OffscreenCanvas !== 'undefined') return new OffscreenCanvas(width, height);
  if (typeof document === 'undefined') {
    throw new RinferError('unsupported', 'resizing an image needs a canvas: there is none here');
  }
  return Object.assign(document.createElement('canvas'), { width, height });
}

async function drawable(image) {
  if (typeof image === 'string' || image instanceof URL) {
    const response = await fetch(image);
    if (!response.ok) throw new RinferError('invalid', `${image}: status ${response.status}`);
    return createImageBitmap(await response.blob());
  }
  if (typeof Blob !== 'undefined' && image instanceof Blob) return createImageBitmap(image);
  if (image?.decode) await image.decode();
  return image;
}

const sizeOf = (image) => [
  image.naturalWidth || image.videoWidth || image.displayWidth || image.width,
  image.naturalHeight || image.videoHeight || image.displayHeight || image.height,
];

const isPixels = (image) => image?.data instanceof Uint8ClampedArray && image.width > 0;

/** RGBA bytes of the image at the size that is asked for. */
async function rgba(image, { resizedWidth, resizedHeight }) {
  const same =
    (resizedWidth ?? image.width) === image.width &&
    (resizedHeight ?? image.height) === image.height;
  if (isPixels(image) && same) return image;
  let from = await drawable(image);
  if (isPixels(from)) {
    const whole = canvas(from.width, from.height);
    whole.getContext('2d').putImageData(from, 0, 0);
    from = whole;
  }
  const [w, h] = sizeOf(from);
  if (!w || !h) throw new RinferError('invalid', 'this is no image with a width and a height');
  const [width, height] = [resizedWidth ?? w, resizedHeight ?? h];
  const context = canvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(from, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

const CHANNELS = { RGB: [0, 1, 2], BGR: [2, 1, 0], RGBA: [0, 1, 2, 3], GRAY: [] };

/** `{type, data, dims}`: y = (pixel + bias) / mean for floats, pixels as they are for uint8. */
export async function pixels(image, options) {
  const { tensorFormat = 'RGB', tensorLayout = 'NCHW', dataType = 'float32', norm = {} } = options;
  const channels = CHANNELS[tensorFormat];
  if (!channels || !['NCHW', 'NHWC'].includes(tensorLayout)) {
    throw new RinferError('invalid', `${tensorFormat} as ${tensorLayout} is no form of an image`);
  }
  if (dataType !== 'float32' && dataType !== 'uint8') {
    throw new RinferError('invalid', `images become float32 or uint8, not ${dataType}`);
  }
  const { data: from, width, height } = await rgba(image, options);
  const [n, gray] = [width * height, channels.length === 0];
  const count = gray ? 1 : channels.length;
  const each = (x, c, other) => (Array.isArray(x) ? x[c] : x) ?? other;
  const data = dataType === 'uint8' ? new Uint8Array(n * count) : new Float32Array(n * count);
  for (let c = 0; c < count; c += 1) {
    const floats = dataType === 'float32';
    const bias = floats ? each(norm.bias, c, 0) : 0;
    const mean = floats ? each(norm.mean, c, 255) : 1;
    const [start, step] = tensorLayout === 'NCHW' ? [c * n, 1] : [c, count];
    for (let i = 0; i < n; i += 1) {
      const at = 4 * i;
      const x = gray
        ? 0.299 * from[at] + 0.587 * from[at + 1] + 0.114 * from[at + 2]
        : from[at + channels[c]];
      data[start + i * step] = (x + bias) / mean;
    }
  }
  const dims = tensorLayout === 'NCHW' ? [1, count, height, width] : [1, height, width, count];
  return { type: dataType, data, dims };
}
