/** Headless Chromium, by Playwright. */
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

/** Has libwebrtc log every packet of RTP, RTCP and SCTP, as it is without encryption, in the form that text2pcap(1) reads. */
const DUMPING = [
  '--force-fieldtrials=WebRTC-Debugging-RtpDump/Enabled/',
  '--vmodule=*/webrtc/*=9',
  '--enable-logging=stderr',
];

/**
 * A browser: `open` gives tabs, each in a context of its own. It takes certificates of the key whose hash is `trustedKey`, and
 * with `dump` what it sends and gets is in our log.
 */
export async function launchChromium(executablePath, { trustedKey, dump }) {
  const trusting = trustedKey ? [`--ignore-certificate-errors-spki-list=${trustedKey}`] : [];
  const args = [...ARGUMENTS, ...trusting, ...(dump ? DUMPING : [])];
  // Read as the module is loaded: it passes on what the browser says.
  if (dump) process.env.DEBUG = 'pw:browser';
  const { chromium } = await import('playwright-core');
  const browser = await chromium.launch({ executablePath, headless: true, args });
  return {
    version: browser.version(),
    async open({ name, url, width, height }) {
      const context = await browser.newContext({
        viewport: { width, height },
        permissions: ['camera', 'microphone'],
      });
      const page = await context.newPage();
      page.on('pageerror', (error) => console.error(`[${name}] ${error.stack ?? error}`));
      page.on('console', (message) => console.error(`[${name}] ${message.type()}: ${message.text()}`));
      await page.addInitScript(keepConnections);
      await page.goto(url);
      return {
        page,
        call: (fn, args) => page.evaluate(([fn, args]) => window.client[fn](...args), [fn, args]),
        close: () => context.close(),
      };
    },
    close: () => browser.close(),
  };
}
