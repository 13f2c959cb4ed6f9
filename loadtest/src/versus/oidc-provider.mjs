// oidc-provider with its in-memory adapter: one caller, one token, written into a file when it is ready.
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const [port, secret, file] = process.argv.slice(2);
const provider = new Provider(`http://localhost:${port}`, {
  clients: [{
    client_id: 'api', client_secret: secret, grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
    token_endpoint_auth_method: 'client_secret_basic',
  }],
  features: {
    clientCredentials: { enabled: true }, devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: async () => true },
  },
  scopes: ['tasks:read'],
  ttl: { ClientCredentials: 86400 },
});
const client = await provider.Client.find('api');
const token = await new provider.ClientCredentials({ client, scope: 'tasks:read' }).save();
writeFileSync(file, token, { mode: 0o600 });
createServer(provider.callback()).listen(Number(port), '127.0.0.1');
