// Verifies with published libraries: reads [{library, secret, headers, body}] and prints ["ok" | error, ...].
import { createRequire } from "module";
const require = createRequire(process.argv[2] + "/x.js");
const { Webhook } = require("standardwebhooks");
const svix = require("svix");
const { default: Telnyx } = require("telnyx");

const verifiers = {
  standardwebhooks: ({ secret, body, headers }) => new Webhook(secret).verify(body, headers),
  svix: ({ secret, body, headers }) => new svix.Webhook(secret).verify(body, headers),
  telnyx: async ({ secret, body, headers }) => {
    const client = new Telnyx({ apiKey: "KEY", publicKey: secret });
    await client.webhooks.unwrap(body, { headers });
  },
};
let text = "";
for await (const chunk of process.stdin) text += chunk;
const results = [];
for (const item of JSON.parse(text)) {
  try {
    await verifiers[item.library](item);
    results.push("ok");
  } catch (error) {
    results.push(String(error));
  }
}
console.log(JSON.stringify(results));
