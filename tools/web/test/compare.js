// |found − expected| ≤ atol + rtol · |expected|; NaN equals NaN.

const floats = new Set(['float32', 'float64', 'float16', 'bfloat16', 'complex64', 'complex128']);

/** What is different, or undefined. */
export function different(found, expected, { rtol = 1e-3, atol = 1e-7 } = {}) {
  if (expected === null || found === null) return found === expected ? undefined : 'null or not';
  if (Array.isArray(expected)) {
    if (!Array.isArray(found) || found.length !== expected.length) return 'another length';
    return expected.map((item, i) => different(found[i], item, { rtol, atol })).find(Boolean);
  }
  if (found.type !== expected.type) return `${found.type} where ${expected.type} is expected`;
  if (String(found.dims) !== String(expected.dims))
    return `dims ${found.dims}, not ${expected.dims}`;
  const [a, b] = [found.toNumbers(), expected.toNumbers()];
  const wide = expected.type === 'bfloat16' ? Math.max(rtol, 1 / 64) : rtol;
  for (let i = 0; i < b.length; i += 1) {
    const same =
      a[i] === b[i] ||
      (Number.isNaN(a[i]) && Number.isNaN(b[i])) ||
      (floats.has(expected.type) && Math.abs(a[i] - b[i]) <= atol + wide * Math.abs(b[i]));
    if (!same) return `element ${i} is ${a[i]}, not ${b[i]}`;
  }
  return undefined;
}
