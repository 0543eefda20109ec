/**
 * The tests' hand on a browser: one JSON request per line in, one JSON answer per line out.
 *
 * Request `{id, op, …}`, answer `{id, ok}` or `{id, error}`. Tabs have names and a browser context each, so
 * that they share neither storage nor process. Everything for people goes to stderr. At the end of input the
 * browser is closed.
 */
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const ARGUMENTS = [
  '--no-sandbox', // containers have no user namespaces, and only our own page is opened
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
  '--autoplay-policy=no-user-gesture-required',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
];

const [executablePath] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, headless: true, args: ARGUMENTS });
const home = await serveClientPage();
const tabs = new Map();

/** A script of ours or of the SDK's, and all that it imports, as one. */
async function bundled(module) {
  const bundle = await build({
    entryPoints: [fileURLToPath(import.meta.resolve(module))],
    bundle: true,
    format: 'iife',
    target: 'chrome120',
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

/** Runs in every page before its own scripts: keeps the peer connections, so that `media` can ask them. */
function keepConnections() {
  const Native = window.RTCPeerConnection;
  window.keptConnections = [];
  window.RTCPeerConnection = class extends Native {
    constructor(...given) {
      super(...given);
      window.keptConnections.push(this);
    }
  };
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
  const page = tabs.get(name);
  if (!page) throw new Error(`no tab ${name}`);
  return page;
}

const operations = {
  /** Opens a tab at `url`, or at the client page. */
  async open({ name, url, width = 1280, height = 800 }) {
    const context = await browser.newContext({
      viewport: { width, height },
      permissions: ['camera', 'microphone'],
    });
    const page = await context.newPage();
    page.on('pageerror', (error) => console.error(`[${name}] ${error.stack ?? error}`));
    page.on('console', (message) => console.error(`[${name}] ${message.type()}: ${message.text()}`));
    await page.addInitScript(keepConnections);
    await page.goto(url ?? home);
    tabs.set(name, page);
  },
  async close({ name }) {
    await tab(name).context().close();
    tabs.delete(name);
  },
  /** Calls a function of `window.client`. */
  call({ name, fn, args }) {
    return tab(name).evaluate(([fn, args]) => window.client[fn](...args), [fn, args]);
  },
  fill: ({ name, label, text }) => tab(name).getByLabel(label, { exact: true }).fill(text),
  click: ({ name, role, label }) => tab(name).getByRole(role, { name: label, exact: true }).click(),
  text: ({ name }) => tab(name).locator('body').innerText(),
  media: ({ name }) => tab(name).evaluate(media),
  async screenshot({ name, path }) {
    await tab(name).screenshot({ path });
  },
};

console.log(JSON.stringify({ ready: browser.version() }));
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
