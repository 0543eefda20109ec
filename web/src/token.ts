/** What a client needs to join: where, and with which token. */
export interface Ticket {
  url: string;
  token: string;
}

/** The signalling address beside this page. */
function ownAddress(): string {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}`;
}

/**
 * Gets a join token. A server started with `--dev` hands one out; any other wants the page opened with
 * `?token=…`, made by the application's backend or by `sluice token`.
 */
export async function ticketFor(room: string, name: string): Promise<Ticket> {
  const given = new URLSearchParams(location.search).get('token');
  if (given) return { url: ownAddress(), token: given };

  const identity = `${name.toLowerCase().replace(/[^a-z0-9]+/g, '-').slice(0, 40) || 'guest'}-${randomSuffix()}`;
  const query = new URLSearchParams({ room, identity, name });
  const answer = await fetch(`/dev/token?${query}`);
  if (answer.status === 404) {
    throw new Error('This server hands out no tokens. Open the page with ?token=…, made with `sluice token`.');
  }
  if (!answer.ok) throw new Error((await answer.text()) || `The server answered ${answer.status}.`);
  const { token } = (await answer.json()) as { token: string };
  return { url: ownAddress(), token };
}

function randomSuffix(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(3));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
