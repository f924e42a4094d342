// Runs a vendor's printed handler as it stands: node host.cjs <file>. Prints its port, then one line per request.
const fs = require("fs");
const express = require("express");
const typescript = require("typescript");

const file = process.argv[2];
const listen = express.application.listen;
express.application.listen = function () {
  const server = listen.call(this, 0, "127.0.0.1", () => console.info(`port ${server.address().port}`));
  return server;
};
let source = fs.readFileSync(file, "utf8");
if (!file.endsWith(".cjs")) {
  const options = { module: typescript.ModuleKind.CommonJS, target: typescript.ScriptTarget.ES2022, esModuleInterop: true };
  source = typescript.transpileModule(source, { compilerOptions: options }).outputText;
}
const globals = { require, exports: {}, WEBHOOK_SECRET: process.env.WEBHOOK_SECRET };
globals.console = { log: () => {}, error: console.error };
const complete = source.includes("app.listen(");
if (!complete) {
  globals.app = express();
  globals.app.use(express.json({ verify: (req, res, raw) => (req.rawBody = raw) }));
}
new Function(...Object.keys(globals), source)(...Object.values(globals));
if (!complete) globals.app.listen();
