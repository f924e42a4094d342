/**
 * JSON as text: laid out over lines, never parsed to values and printed again. Numbers keep every digit, strings keep
 * their escapes, keys keep their order, as in the gateway itself.
 *
 * @typedef {{kind: "key"|"string"|"number"|"literal"|"mark"|"space", text: string}} Token
 */

const TOKEN = /\s+|"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*|true|false|null|[{}[\],:]/y;

/**
 * The tokens of `text` with line breaks and indentation between them, or null when it is not JSON to our eyes.
 * @param {string} text
 * @returns {Token[]|null}
 */
export function layOut(text) {
  const tokens = lex(text);
  if (tokens === null) return null;
  /** @type {Token[]} */
  const out = [];
  let depth = 0;
  const newLine = () => out.push({ kind: "space", text: `\n${"  ".repeat(depth)}` });
  tokens.forEach((token, at) => {
    const next = tokens[at + 1];
    if (token === "{" || token === "[") {
      out.push({ kind: "mark", text: token });
      depth += 1;
      if (next !== "}" && next !== "]") newLine();
    } else if (token === "}" || token === "]") {
      depth -= 1;
      if (tokens[at - 1] !== "{" && tokens[at - 1] !== "[") newLine();
      out.push({ kind: "mark", text: token });
    } else if (token === ",") {
      out.push({ kind: "mark", text: "," });
      newLine();
    } else if (token === ":") {
      out.push({ kind: "mark", text: ":" }, { kind: "space", text: " " });
    } else {
      out.push({ kind: next === ":" ? "key" : kindOf(token), text: token });
    }
  });
  return out;
}

/** The same as one text; `text` itself when it cannot be laid out. */
export function pretty(text) {
  return layOut(text)?.map((token) => token.text).join("") ?? text;
}

function lex(text) {
  const tokens = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const match = TOKEN.exec(text);
    if (match === null) return null;
    if (match[0].trim() !== "") tokens.push(match[0]);
  }
  return tokens;
}

function kindOf(token) {
  if (token.startsWith('"')) return "string";
  return /^[-0-9]/.test(token) ? "number" : "literal";
}
