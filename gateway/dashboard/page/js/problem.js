/** Problem answers (RFC 9457) in words.
 *
 * @typedef {{status: number, detail: string, errors: {field: string, message: string}[], retryAfter: number|null}} Problem
 */

/** @param {Response} response @returns {Promise<Problem>} `retryAfter` in seconds */
export async function readProblem(response) {
  /** @type {any} */
  let body = null;
  try {
    body = await response.json();
  } catch {
    // A proxy's page, or nothing: the status has to do.
  }
  const errors = Array.isArray(body?.errors)
    ? body.errors.map((each) => ({ field: String(each?.field ?? ""), message: sentence(String(each?.message ?? "")) }))
    : [];
  const seconds = Number(response.headers.get("Retry-After") ?? NaN);
  return {
    status: response.status,
    detail: sentence(String(body?.detail ?? body?.title ?? `the answer was ${response.status} ${response.statusText}`.trim())),
    errors,
    retryAfter: Number.isFinite(seconds) && seconds >= 0 ? seconds : null,
  };
}

/** "data" for `data`, `[0].data`, `0.data` and `body.data`: the name that a form field has. */
export function fieldName(path) {
  return path.split(/[.[\]/]+/).filter((part) => part !== "" && !/^[0-9]+$/.test(part)).at(-1) ?? "";
}

function sentence(text) {
  return text === "" || /[.!?]$/.test(text) ? capital(text) : `${capital(text)}.`;
}

function capital(text) {
  // "since: must be ..." begins with the name of a field, which is spelled as it is.
  return /^[\w.[\]]+:/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
}
