// A static server for tests and for looking at the pages: `npm start`. It answers with the strict
// policy that the package promises to work under.
import { createServer } from 'node:http';
import { createReadStream, existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const web = join(here, '..');
export const root = join(web, '../..');
export const conformance = process.env.RINFER_CONFORMANCE ?? join(root, 'target/conformance');

/** First part of a path → folder; everything else is of the site. */
const FOLDERS = {
  test: here,
  conformance,
  trained: join(root, 'tests/models'),
  ort: join(web, 'node_modules/onnxruntime-web/dist'),
  large: process.env.RINFER_MODELS ?? join(root, 'target/models'),
};

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.css': 'text/css',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.svg': 'image/svg+xml',
};

const POLICY =
  "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; " +
  "img-src 'self' blob: data:; connect-src 'self' https:; style-src 'self'";

/** What makes a page cross-origin isolated, and lets its workers be. */
const ISOLATED = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
};

function answer(request, response, headers) {
  const url = new URL(request.url, 'http://localhost');
  const [first, ...rest] = normalize(decodeURIComponent(url.pathname)).split('/').filter(Boolean);
  const folder = FOLDERS[first];
  let path = folder ? join(folder, ...rest) : join(web, 'site', first ?? '', ...rest);
  if (url.searchParams.has('list') && existsSync(path)) {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(readdirSync(path).sort()));
    return;
  }
  if (existsSync(path) && statSync(path).isDirectory()) path = join(path, 'index.html');
  if (!existsSync(path)) {
    response.writeHead(404, { 'content-type': 'text/plain' });
    response.end('not found');
    return;
  }
  response.writeHead(200, {
    'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
    'content-length': statSync(path).size,
    'content-security-policy': POLICY,
    'cache-control': 'no-store',
    ...headers,
  });
  createReadStream(path).pipe(response);
}

/** Serves on a free port of this machine; gives the address and a function that ends it. */
export function serve(port = 0, { isolated = false } = {}) {
  const headers = isolated ? ISOLATED : {};
  const server = createServer((request, response) => answer(request, response, headers));
  return new Promise((resolve) => {
    server.listen(port, '127.0.0.1', () => {
      const url = `http://127.0.0.1:${server.address().port}`;
      resolve({ url, close: () => server.close() });
    });
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  console.log((await serve(8080)).url);
}
