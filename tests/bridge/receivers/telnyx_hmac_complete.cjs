const express = require('express');
const crypto = require('crypto');
const app = express();

app.use(express.json());

// Store processed events (use Redis in production)
const processedEvents = new Set();

function verifySignature(body, signature, timestamp) {
  const payload = `${timestamp}.${JSON.stringify(body)}`;
  const hmac = crypto.createHmac('sha256', process.env.TELNYX_PUBLIC_KEY);
  const digest = hmac.update(payload).digest('hex');
  return signature === digest;
}

app.post('/webhooks/telnyx', async (req, res) => {
  // Verify signature
  const signature = req.headers['telnyx-signature-ed25519'];
  const timestamp = req.headers['telnyx-timestamp'];

  if (!verifySignature(req.body, signature, timestamp)) {
    return res.status(401).send('Invalid signature');
  }

  // Respond immediately
  res.status(200).send('OK');

  // Process asynchronously
  try {
    const event = req.body.data;

    // Check idempotency
    if (processedEvents.has(event.id)) {
      return;
    }
    processedEvents.add(event.id);

    // Route to handlers
    switch (event.event_type) {
      case 'message.received':
        await handleInboundMessage(event.payload);
        break;
      case 'message.delivered':
        await handleDelivered(event.payload);
        break;
      case 'message.failed':
        await handleFailed(event.payload);
        break;
    }
  } catch (error) {
    console.error('Error processing webhook:', error);
  }
});

async function handleInboundMessage(payload) {
  console.log('Received message from:', payload.from.phone_number);
  console.log('Text:', payload.text);

  // Your business logic here
}

async function handleDelivered(payload) {
  console.log('Message delivered:', payload.id);

  // Update database, notify user, etc.
}

async function handleFailed(payload) {
  console.log('Message failed:', payload.id, payload.errors);

  // Retry logic, notify admin, etc.
}

app.listen(3000, () => console.log('Webhook server running on port 3000'));
