// openid-client against a development server, from its dev.json alone:
//
//     npm install --prefix somewhere openid-client
//     TOKENSCOPE_NODE_MODULES=somewhere/node_modules NODE_EXTRA_CA_CERTS=tokenscope-dev/certs/ca.pem \
//         node tests/clients/stock.mjs tokenscope-dev/dev.json
//
// It finds the server by its metadata (RFC 8414), introspects a sample token (RFC 7662), revokes it as its app (RFC 7009),
// and introspects it again: exactly {"active": false}. Where the library is not installed that is said. Exits 0 if
// everything asked was answered as expected.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const dev = JSON.parse(readFileSync(process.argv[2], "utf8"));

async function library(name) {
  const places = [process.env.TOKENSCOPE_NODE_MODULES];
  if (!places[0]) {
    try {
      places[0] = execFileSync("npm", ["root", "-g"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
    } catch {
      return null;
    }
  }
  try {
    const found = createRequire(join(places[0], "here.js")).resolve(name);
    return await import(pathToFileURL(found).href);
  } catch {
    return null;
  }
}

const named = (rows, name) => rows.find((row) => row.name === name);

const client = await library("openid-client");
if (client === null) {
  console.log("SKIPPED: openid-client (npm): not installed");
  process.exit(0);
}

async function as(name) {
  const caller = named(dev.callers, name);
  const authentication = client.ClientSecretBasic(caller.client_secret);
  return client.discovery(new URL(dev.https_url), caller.client_id, undefined, authentication, { algorithm: "oauth2" });
}

const sample = named(dev.tokens, "jonas-time");
const api = await as("api");
assert.equal(api.serverMetadata().introspection_endpoint, `${dev.https_url}/introspect`);
const before = await client.tokenIntrospection(api, sample.token);
assert.equal(before.active, true);
assert.equal(before.sub, sample.subject);
assert.equal(before.client_id, sample.client_id);
await client.tokenRevocation(await as("time-tracker"), sample.token);
assert.deepEqual(await client.tokenIntrospection(api, sample.token), { active: false });
console.log("openid-client (npm): metadata, introspection, revocation, and then active: false");
