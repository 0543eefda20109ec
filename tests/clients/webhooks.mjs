/**
 * A receiver of webhooks by way of Node's `livekit-server-sdk`: one JSON request per line in, one JSON answer per line out.
 *
 * Arguments: API key and secret. Functions as in `webhooks.py`.
 */
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import { WebhookReceiver } from 'livekit-server-sdk';

const receiver = new WebhookReceiver(...process.argv.slice(2));
const events = [];

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  try {
    const event = await receiver.receive(Buffer.concat(chunks).toString(), request.headers.authorization);
    events.push({ ...event.toJson({ useProtoFieldName: true }), content_type: request.headers['content-type'] });
    response.writeHead(200).end();
  } catch (error) {
    events.push({ error: `${error.name}: ${error.message}` });
    response.writeHead(401).end();
  }
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const { id, fn } = JSON.parse(line);
  const url = `http://127.0.0.1:${server.address().port}/webhooks`;
  console.log(JSON.stringify({ id, ok: fn === 'url' ? url : events }));
}
server.close();
server.closeAllConnections();
