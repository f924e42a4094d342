// npm eventsource-client: node eventsource_client.mjs URL
import { createEventSource } from 'eventsource-client'

const [url] = process.argv.slice(2)
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

createEventSource({
  url,
  onConnect: () => say({ open: true }),
  onMessage: ({ event, data, id }) => say({ type: event ?? 'message', data, id }),
})
