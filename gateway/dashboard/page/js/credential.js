/**
 * The key or token of this tab. It goes out in a header; where script can set none, in `EventSource`, a ticket takes its
 * place: good for one request, so that what stands in an address is worthless afterwards.
 *
 * @typedef {import("./problem.js").Problem} Problem
 */

import { readProblem } from "./problem.js";

const KEY = "gateway.credential";
const TIMEOUT = 8_000;

export class Credential {
  #token = "";

  /** @param {string} ticketsUrl */
  constructor(ticketsUrl) {
    this.ticketsUrl = ticketsUrl;
    try {
      this.#token = sessionStorage.getItem(KEY) ?? "";
    } catch {
      // storage is denied: it then lasts as long as the page
    }
  }

  /** Whether there is one. */
  get given() {
    return this.#token !== "";
  }

  /** @param {string} token  "" forgets it */
  set(token) {
    this.#token = token;
    try {
      if (token === "") sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, token);
    } catch {
      // as above
    }
  }

  /** Headers for `fetch`. @returns {Record<string, string>} */
  headers() {
    return this.given ? { Authorization: `Bearer ${this.#token}` } : {};
  }

  /**
   * What an `EventSource` needs in its query.
   * @returns {Promise<{query: [string, string][]|null, problem: Problem|null}>} no query when there is no ticket to be
   *   had; no problem either when the gateway was not reached
   */
  async admission() {
    if (!this.given) return { query: [], problem: null };
    try {
      const response = await fetch(this.ticketsUrl, {
        method: "POST",
        headers: this.headers(),
        signal: AbortSignal.timeout(TIMEOUT),
      });
      if (!response.ok) return { query: null, problem: await readProblem(response) };
      const { ticket } = await response.json();
      return { query: [["ticket", ticket]], problem: null };
    } catch {
      return { query: null, problem: null };
    }
  }
}
