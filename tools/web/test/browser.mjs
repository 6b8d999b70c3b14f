// Chromium for tests: a page under the strict policy.
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

/** What gives a page WebGPU where there is no GPU: SwiftShader, which Chromium brings along. */
const GPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** A browser, with WebGPU or without; `close` ends it and removes its profile. */
export async function launch({ gpu = false } = {}) {
  const viewport = { width: 1100, height: 800 };
  const profile = await mkdtemp(join(tmpdir(), 'rinfer-web-'));
  const executablePath = [process.env.RINFER_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chrome'].find(
    (path) => path && existsSync(path),
  );
  if (!executablePath) throw new Error('no Chromium: set RINFER_CHROMIUM to one');
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    viewport,
    // Playwright would switch WebGPU off.
    ignoreDefaultArgs: gpu ? ['--disable-gpu'] : [],
    args: [
      ...(gpu ? GPU : []),
      '--no-sandbox',
      '--no-first-run',
      '--disable-quic',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--enable-precise-memory-info',
      '--js-flags=--expose-gc',
      '--use-fake-device-for-media-stream',
      '--use-fake-ui-for-media-stream',
      '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
    ],
  });
  return {
    context,
    async open(url) {
      const page = await context.newPage();
      page.problems = [];
      page.on('pageerror', (error) => page.problems.push(String(error)));
      page.on('console', (message) => {
        if (message.type() === 'error') page.problems.push(message.text());
      });
      await page.goto(url);
      return page;
    },
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** Calls what a script of this folder exports, in a page. */
export async function call(page, url, script, name, args) {
  return page.evaluate(
    async ([base, file, test, rest]) => {
      const [rinfer, all] = await Promise.all([
        import(`${base}/dist/index.js`),
        import(`${base}/test/${file}`),
      ]);
      return all[test](rinfer, base, ...rest);
    },
    [url, script, name, args],
  );
}
