// npm eventsource: node eventsource.mjs URL TYPE...
import { EventSource } from 'eventsource'

const [url, ...types] = process.argv.slice(2)
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

const source = new EventSource(url)
source.onopen = () => say({ open: true })
source.onerror = (error) => say({ error: String(error.message), code: error.code })
for (const type of ['message', ...types]) {
  source.addEventListener(type, (event) => say({ type: event.type, data: event.data, id: event.lastEventId }))
}
