// npm @microsoft/fetch-event-source: node fetch_event_source.mjs URL
// It is made for browsers: node needs a window, and openWhenHidden so that it asks for no document.
import { createRequire } from 'node:module'

const { fetchEventSource, EventStreamContentType } = createRequire(import.meta.url)('@microsoft/fetch-event-source')

globalThis.window = globalThis
const [url] = process.argv.slice(2)
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

fetchEventSource(url, {
  openWhenHidden: true,
  async onopen(response) {
    const type = response.headers.get('content-type') ?? ''
    if (!response.ok || !type.startsWith(EventStreamContentType)) throw new Error(`${response.status} ${type}`)
    say({ open: true })
  },
  onmessage: ({ event, data, id }) => say({ type: event || 'message', data, id }),
  // Without this an end of the response is the end of it all.
  onclose() {
    throw new Error('closed by the server')
  },
  // Returning nothing means: again, after the server's `retry`.
  onerror: (error) => say({ error: String(error.message) }),
})
