/**
 * Headless Firefox, by its own remote agent: WebDriver BiDi over a WebSocket, without a driver in between
 * (https://w3c.github.io/webdriver-bidi/).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const PREFERENCES = {
  // Nobody is there to press a button, and no device to play anything: without one an AudioContext never runs.
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.cubeb.force_mock_context': true,
  // Nothing but our own page is to be talked to.
  'app.update.disabledForTesting': true,
  'browser.safebrowsing.downloads.remote.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'extensions.getAddons.cache.enabled': false,
  'media.gmp-manager.updateEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'toolkit.telemetry.server': '',
  // Cameras are painted by timers.
  'dom.min_background_timeout_value': 10,
  'dom.timeout.enable_budget_timer_throttling': false,
};

/** Commands and their answers over the agent's socket. */
class Agent {
  waiting = new Map();
  last = 0;

  constructor(socket, onEvent) {
    this.socket = socket;
    socket.addEventListener('message', ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'event') return onEvent(message.method, message.params);
      const { resolve, reject } = this.waiting.get(message.id) ?? {};
      this.waiting.delete(message.id);
      if (message.type === 'success') resolve?.(message.result);
      else reject?.(new Error(`${message.error}: ${message.message}`));
    });
    socket.addEventListener('close', () => {
      this.waiting.forEach(({ reject }) => reject(new Error('Firefox is gone')));
    });
  }

  send(method, params) {
    this.last += 1;
    const id = this.last;
    this.socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }
}

/** The agent's address, which Firefox tells once it listens; whatever else it says goes to our log. */
function address(child) {
  return new Promise((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', (line) => {
      const found = /WebDriver BiDi listening on (ws:\S+)/.exec(line);
      if (found) resolve(found[1]);
      console.error(line);
    });
    child.once('exit', (code) => reject(new Error(`Firefox ended: ${code}`)));
  });
}

/** A browser: `open` gives tabs, each in a window and a context of its own. */
export async function launchFirefox(executablePath) {
  const profile = await mkdtemp(join(tmpdir(), 'firefox-'));
  const lines = Object.entries(PREFERENCES).map((pair) => `user_pref(${pair.map((part) => JSON.stringify(part))});\n`);
  await writeFile(join(profile, 'user.js'), lines.join(''));
  const args = ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0'];
  // It must not outlive us, whatever becomes of us.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', executablePath, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  const socket = new WebSocket(`${await address(child)}/session`);
  await new Promise((resolve, reject) => {
    socket.addEventListener('open', resolve);
    socket.addEventListener('error', () => reject(new Error('Firefox does not take the connection')));
  });

  const names = new Map();
  const agent = new Agent(socket, (method, params) => {
    if (method === 'log.entryAdded') console.error(`[${names.get(params.source.context)}] ${params.level}: ${params.text}`);
  });
  const { capabilities } = await agent.send('session.new', { capabilities: {} });
  await agent.send('session.subscribe', { events: ['log.entryAdded'] });

  return {
    version: capabilities.browserVersion,
    async open({ name, url }) {
      const { userContext } = await agent.send('browser.createUserContext', {});
      const { context } = await agent.send('browsingContext.create', { type: 'window', userContext });
      names.set(context, name);
      await agent.send('browsingContext.navigate', { context, url, wait: 'complete' });
      return {
        async call(fn, given) {
          const { type, result, exceptionDetails } = await agent.send('script.callFunction', {
            functionDeclaration: `async (fn, given) =>
              JSON.stringify((await window.client[fn](...JSON.parse(given))) ?? null)`,
            arguments: [fn, JSON.stringify(given)].map((value) => ({ type: 'string', value })),
            target: { context },
            awaitPromise: true,
          });
          if (type === 'exception') throw new Error(exceptionDetails.text);
          return JSON.parse(result.value);
        },
        close: () => agent.send('browser.removeUserContext', { userContext }),
      };
    },
    async close() {
      const gone = once(child, 'exit');
      await agent.send('browser.close', {});
      await gone;
      await rm(profile, { recursive: true, force: true });
    },
  };
}
