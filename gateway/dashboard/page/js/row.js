/**
 * What the list shows: an event, or a mark where something happened to the stream.
 *
 * @typedef {{kind: "event", number: number, id: string, position: string, stream: string, channel: string, type: string, time: string,
 *   tenant: string|undefined, text: string, dataAt: number}} EventRow  `text` is the envelope as it came,
 *   `position` is the id of its frame: where a reader goes on after it, in all streams of the subscription
 * @typedef {{kind: "gap"|"skipped"|"closing"|"caught-up"|"back", number: number, label: string, text: string}} MarkRow
 * @typedef {EventRow|MarkRow} Row
 */

// The gateway writes the keys in this order, and values that hold nothing to escape. Reading the head by pattern
// leaves the payload as text: JSON.parse would turn 9007199254740993 into 9007199254740992.
const HEAD =
  /^\{"id":"([^"]*)","stream":"([^"]*)","channel":"([^"]*)","type":"([^"]*)","time":"([^"]*)"(?:,"tenant":"([^"]*)")?,"data":/;

/**
 * Reads a native envelope; an unknown form is shown whole rather than not at all.
 * @param {string} text @param {string} position @returns {EventRow}
 */
export function readEvent(text, position) {
  const head = HEAD.exec(text);
  if (head === null) {
    const unknown = { stream: "", channel: "", type: "?", time: "", tenant: undefined, dataAt: 0 };
    return { kind: "event", number: 0, id: position, position, text, ...unknown };
  }
  const [all, id, stream, channel, type, time, tenant] = head;
  return { kind: "event", number: 0, id, position, stream, channel, type, time, tenant, text, dataAt: all.length };
}

/** @returns {MarkRow} */
export function mark(kind, label, text = "") {
  return { kind, number: 0, label, text };
}

/** The payload of an event as the publisher spelled it; at most `limit` characters of it. */
export function payload(row, limit = Infinity) {
  if (row.dataAt === 0) return row.text.slice(0, limit);
  return row.text.slice(row.dataAt, Math.min(row.text.length - 1, row.dataAt + limit));
}

const two = (number) => String(number).padStart(2, "0");

/** RFC 3339 as local HH:MM:SS.mmm, with the day in front when it is not today. Unreadable texts come back as they are. */
export function clockTime(time, today = new Date()) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return time;
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
  const sameDay = date.toDateString() === today.toDateString();
  return sameDay ? clock : `${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock.slice(0, 8)}`;
}

/** One of eight tones for a channel: the same name has the same colour in every tab. */
export function tone(channel) {
  let hash = 0;
  for (let at = 0; at < channel.length; at += 1) hash = (hash * 31 + channel.charCodeAt(at)) >>> 0;
  return hash % 8;
}
