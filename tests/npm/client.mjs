// The stock openai npm client, unmodified, against a Sealgate gateway.
// Usage: SEALGATE_URL=http://127.0.0.1:PORT/v1 SEALGATE_KEY=sg-... SEALGATE_MODEL=... node client.mjs
// Prints one JSON object: what the client saw.
import OpenAI from "openai";

const model = process.env.SEALGATE_MODEL;
const client = new OpenAI({ baseURL: process.env.SEALGATE_URL, apiKey: process.env.SEALGATE_KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "Name three colours." }];

const models = (await client.models.list()).data.map((entry) => entry.id);

const { data: stream, response } = await client.chat.completions
  .create({ model, messages, max_tokens: 12, temperature: 0, stream: true })
  .withResponse();
let text = "";
let chunks = 0;
let finishReason = null;
for await (const chunk of stream) {
  chunks += 1;
  text += chunk.choices[0]?.delta?.content ?? "";
  finishReason = chunk.choices[0]?.finish_reason ?? finishReason;
}

const whole = await client.chat.completions.create({ model, messages, max_tokens: 12, temperature: 0 });

let error = null;
try {
  await client.chat.completions.create({ model: "no-such-model", messages });
} catch (caught) {
  error = { status: caught.status, code: caught.code };
}

console.log(
  JSON.stringify({
    models,
    chunks,
    text,
    finishReason,
    wholeText: whole.choices[0].message.content,
    receiptId: response.headers.get("sealgate-receipt-id"),
    error,
  }),
);
