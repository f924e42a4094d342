// Reads an array of JSON texts and prints what JavaScript makes of each.
let text = "";
for await (const chunk of process.stdin) text += chunk;
console.log(JSON.stringify(JSON.parse(text).map((item) => JSON.stringify(JSON.parse(item)))));
