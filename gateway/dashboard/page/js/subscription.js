/**
 * What the page asks the gateway for: streams, channels, types and a start. It lives in the address (`#/events?...`),
 * so that a view can be shared, reloaded and gone back to. After the `#` it never reaches a server's log.
 *
 * @typedef {{kind: "live"|"last"|"since", value: string}} Start
 * @typedef {{streams: string[], channels: string[], types: string[], start: Start}} Subscription
 */

export const MAX_LAST = 1000;
/** @type {Start} */
const DEFAULT_START = { kind: "last", value: "50" };

const ALLOWED = {
  types: [/^[A-Za-z0-9_.*-]{1,128}$/, "letters, digits, _ . - and *"],
  channels: [/^[A-Za-z0-9_.:/@*-]{1,128}$/, "letters, digits, _ . : / @ - and *"],
  streams: [/^[A-Za-z0-9_.:{}-]{1,128}$/, "letters, digits, _ . : { } and -"],
};

/** "sms.*, voice.*" as a list; commas and blanks both separate, none of the values can hold either. */
export function splitList(text) {
  return [...new Set(text.split(/[\s,]+/).filter(Boolean))];
}

/** A sentence on what is wrong with `values`, or "". The gateway checks again; this only answers sooner. */
export function listError(part, values) {
  const [pattern, characters] = ALLOWED[part];
  const bad = values.find((value) => !pattern.test(value));
  return bad === undefined ? "" : `“${bad.slice(0, 40)}” cannot match: use ${characters}, at most 128 of them.`;
}

/** A sentence on what is wrong with `start`, or "". */
export function startError({ kind, value }) {
  if (kind === "last" && !(/^[0-9]{1,4}$/.test(value) && Number(value) >= 1 && Number(value) <= MAX_LAST)) {
    return `Give a number from 1 to ${MAX_LAST}.`;
  }
  if (kind === "since" && value === "") return "Give 10m, 2h, 7d, earliest, a time or an event id.";
  return "";
}

/** @returns {Subscription} what `hash` (`#/events?type=...`) asks for; parts that it does not name take their default. */
export function readHash(hash) {
  const query = new URLSearchParams(hash.includes("?") ? hash.slice(hash.indexOf("?") + 1) : "");
  const list = (name) => splitList(query.getAll(name).join(","));
  let start = { ...DEFAULT_START };
  if (query.has("since")) {
    const value = (query.get("since") ?? "").trim();
    start = value === "latest" ? { kind: "live", value: "" } : { kind: "since", value };
  } else if (query.has("last")) {
    start = { kind: "last", value: (query.get("last") ?? "").trim() };
  }
  return { streams: list("stream"), channels: list("channel"), types: list("type"), start };
}

/** The address of this view. */
export function writeHash(subscription) {
  const query = filterQuery(subscription);
  const { kind, value } = subscription.start;
  if (kind === "live") query.push(["since", "latest"]);
  else if (kind !== DEFAULT_START.kind || value !== DEFAULT_START.value) query.push([kind, value]);
  return query.length === 0 ? "#/events" : `#/events?${joinQuery(query)}`;
}

/** Its query for `GET /api/events`, as [name, value] pairs, start included. */
export function apiQuery(subscription) {
  const { kind, value } = subscription.start;
  return kind === "live" ? filterQuery(subscription) : [...filterQuery(subscription), [kind, value]];
}

/** [name, value] pairs as a query, escaping only what must be: people read these. */
export function joinQuery(pairs) {
  const readable = (text) => encodeURIComponent(text).replace(/%(2C|3A|2F|40)/g, decodeURIComponent);
  return pairs.map(([name, value]) => `${readable(name)}=${readable(value)}`).join("&");
}

/** "type sms.*, channel sms" or "all events", for people. */
export function describe(subscription) {
  const { streams, channels, types, start } = subscription;
  const parts = [];
  if (types.length > 0) parts.push(types.join(" "));
  if (channels.length > 0) parts.push(`on ${channels.join(" ")}`);
  if (parts.length === 0) parts.push("all events");
  if (streams.length > 0) parts.push(`of ${streams.join(" ")}`);
  if (start.kind === "last") parts.push(`· last ${start.value}`);
  if (start.kind === "since") parts.push(`· since ${start.value}`);
  return parts.join(" ");
}

function filterQuery({ streams, channels, types }) {
  const query = [];
  if (streams.length > 0) query.push(["stream", streams.join(",")]);
  if (channels.length > 0) query.push(["channel", channels.join(",")]);
  if (types.length > 0) query.push(["type", types.join(",")]);
  return query;
}
