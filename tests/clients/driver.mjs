/**
 * The tests' hand on a browser: one JSON request per line in, one JSON answer per line out.
 *
 * Started with `chromium` or `firefox`, where that is, and perhaps options of `launchChromium` as JSON. Request `{id, op, …}`, answer `{id, ok}` or `{id, error}`. Tabs
 * have names and a browser context each, so that they share neither storage nor process. Everything for people goes to
 * stderr. At the end of input the browser is closed.
 */
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

import { launchChromium } from './chromium.mjs';
import { launchFirefox } from './firefox.mjs';

const [kind, executablePath, options] = process.argv.slice(2);
const launch = kind === 'firefox' ? launchFirefox : launchChromium;
const browser = await launch(executablePath, JSON.parse(options ?? '{}'));
const home = await serveClientPage();
const tabs = new Map();

/** A script of ours or of the SDK's, and all that it imports, as one. */
async function bundled(module) {
  const bundle = await build({
    entryPoints: [fileURLToPath(import.meta.resolve(module))],
    bundle: true,
    format: 'iife',
    target: ['chrome120', 'firefox128'],
    write: false,
    logLevel: 'error',
  });
  return bundle.outputFiles[0].text;
}

/** Bundles `page.ts` and serves it on this machine's own loopback, which counts as a secure context. */
async function serveClientPage() {
  const scripts = {
    '/page.js': await bundled('./page.ts'),
    // Encrypts and decrypts frames, in a worker.
    '/e2ee.js': await bundled('livekit-client/e2ee-worker'),
  };
  const server = createServer((request, response) => {
    const script = scripts[request.url];
    response.setHeader('content-type', script ? 'text/javascript' : 'text/html; charset=utf-8');
    response.end(script ?? '<!doctype html><title>client</title><body><script src="/page.js"></script>');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  return `http://127.0.0.1:${server.address().port}/`;
}

/** Runs in a page that is not ours: what its connections receive, and which pictures a person can see. */
async function media() {
  const inbound = [];
  for (const connection of window.keptConnections) {
    for (const entry of (await connection.getStats()).values()) {
      if (entry.type === 'inbound-rtp') inbound.push(entry);
    }
  }
  const onTop = (video) => {
    const { left, top, width, height } = video.getBoundingClientRect();
    return video.parentElement.contains(document.elementFromPoint(left + width / 2, top + height / 2));
  };
  const videos = [...document.querySelectorAll('video')].map((video) => ({
    width: video.videoWidth,
    visible: onTop(video),
  }));
  return { inbound, videos };
}

function tab(name) {
  const found = tabs.get(name);
  if (!found) throw new Error(`no tab ${name}`);
  return found;
}

/** Of a tab in Chromium, which alone has one. */
const page = (name) => tab(name).page;

const operations = {
  /** Opens a tab at `url`, or at the client page. */
  async open({ name, url = home, width = 1280, height = 800 }) {
    tabs.set(name, await browser.open({ name, url, width, height }));
  },
  async close({ name }) {
    await tab(name).close();
    tabs.delete(name);
  },
  /** Calls a function of `window.client`. */
  call: ({ name, fn, args }) => tab(name).call(fn, args),
  fill: ({ name, label, text }) => page(name).getByLabel(label, { exact: true }).fill(text),
  click: ({ name, role, label }) => page(name).getByRole(role, { name: label, exact: true }).click(),
  text: ({ name }) => page(name).locator('body').innerText(),
  media: ({ name }) => page(name).evaluate(media),
  async screenshot({ name, path }) {
    await page(name).screenshot({ path });
  },
};

console.log(JSON.stringify({ ready: browser.version }));
for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, ...given } = JSON.parse(line);
  // Not awaited: a slow answer must not hold up the next request.
  Promise.resolve()
    .then(() => operations[op](given))
    .then(
      (ok) => console.log(JSON.stringify({ id, ok: ok ?? null })),
      (error) => console.log(JSON.stringify({ id, error: String(error?.message ?? error) })),
    );
}
await browser.close();
process.exit(0);
