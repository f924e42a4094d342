app.post('/answer', (req, res) => {
const { call_uuid, from, to } = req.body;
console.log(`Call ${call_uuid} answered from ${from} to ${to}`);
// Return VoxML to control the call
res.json({
voxml_version: "1.0",
instructions: [
{
verb: "Say",
text: "Welcome to our service!",
engine: "google",
language: "en-US"
}
]
});
});
app.post('/status', (req, res) => {
const { event, call_uuid, status } = req.body;
console.log(`Call ${call_uuid} status: ${status}`);
// Update your database, trigger alerts, etc.
res.sendStatus(200);
});