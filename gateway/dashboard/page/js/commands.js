/** Lines for a terminal, with the address that this page was opened at. */

import { apiQuery, joinQuery } from "./subscription.js";

const SAMPLE_TYPE = "sms.delivered";
const SAMPLE_DATA = '{"id":"msg_1","status":"delivered"}';

/** The address of `GET` and `POST /api/events`, also behind a proxy that serves the page under a path. */
export function eventsUrl() {
  return new URL("api/events", document.baseURI).href.split("#")[0];
}

/** `text` as one word of a POSIX shell. */
export function shellWord(text) {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** What goes behind `curl` where a key is needed: by its name in the environment, never itself. */
const BEARER = ` -H "Authorization: Bearer $GATEWAY_TOKEN"`;

/** The curl line that follows what the page follows; after `lastId`, when one is given. */
export function curlTail(subscription, { lastId = "", withKey = false } = {}) {
  const query = lastId === "" ? apiQuery(subscription) : [...apiQuery({ ...subscription, start: { kind: "live", value: "" } }), ["last_event_id", lastId]];
  return `curl -N${withKey ? BEARER : ""} ${shellWord(eventsUrl() + (query.length > 0 ? `?${joinQuery(query)}` : ""))}`;
}

/** The curl line that publishes a sample event. */
export function curlPublish() {
  const body = `{"type":"${SAMPLE_TYPE}","data":${SAMPLE_DATA}}`;
  return `curl ${shellWord(eventsUrl())} -H 'Content-Type: application/json' -d ${shellWord(body)}`;
}

/** The Redis command that publishes the same event. */
export function xaddPublish(redisCli, stream) {
  return `${redisCli} XADD ${shellWord(stream)} '*' type ${SAMPLE_TYPE} data ${shellWord(SAMPLE_DATA)}`;
}
