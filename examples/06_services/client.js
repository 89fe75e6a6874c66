// A client of server.py in JavaScript: npm install && node client.js [grpc://127.0.0.1:4747]
// It knows nothing but the two proto files.

const path = require("node:path");
const { promisify } = require("node:util");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const STORE = path.join(__dirname, "../../protos/lightactors/v1/store.proto");
const COUNTER = path.join(__dirname, "counter.proto");

const protos = grpc.loadPackageDefinition(
  protoLoader.loadSync([STORE, COUNTER], { keepCase: true, longs: Number, oneofs: true }),
);
const address = (process.argv[2] ?? "grpc://127.0.0.1:4747").replace("grpc://", "");

// A client whose methods return promises; the streams stay as they are.
function clientOf(Service) {
  const client = new Service(address, grpc.credentials.createInsecure());
  for (const [name, method] of Object.entries(Service.service)) {
    if (!method.responseStream) client[name] = promisify(client[name]).bind(client);
  }
  return client;
}

// Plain data as a google.protobuf.Value.
function value(data) {
  if (data === null) return { nullValue: "NULL_VALUE" };
  if (typeof data === "boolean") return { boolValue: data };
  if (typeof data === "number") return { numberValue: data };
  if (typeof data === "string") return { stringValue: data };
  if (Array.isArray(data)) return { listValue: { values: data.map(value) } };
  const fields = Object.fromEntries(Object.entries(data).map(([key, item]) => [key, value(item)]));
  return { structValue: { fields } };
}

// Put a task into the store's queue, claim it, report a span and success, and hear of its end.
async function runARollout(store) {
  const task = { question: "What is 6 x 7?", choices: [41, 42] };
  const { value: queued } = await store.EnqueueRollout({ input: value(task), mode: "train" });

  const { value: claimed } = await store.DequeueRollout({ worker_id: "node", timeout: 5 });
  const ids = { rollout_id: claimed.rollout_id, attempt_id: claimed.attempt.attempt_id };
  console.log("claimed", claimed.input.structValue.fields.question.stringValue, "as attempt", claimed.attempt.sequence_id);

  const trace = { trace_id: "1".padStart(32, "0"), span_id: "1".padStart(16, "0") };
  const attributes = { tokens: { int_value: 12 } };
  await store.AddSpan({ span: { ...ids, ...trace, sequence_id: 1, name: "answer", attributes } });
  await store.UpdateAttempt({ ...ids, status: "succeeded" });

  const { value: [finished] } = await store.WaitForRollouts({ rollout_ids: [queued.rollout_id], timeout: 5 });
  const { value: [span] } = await store.QuerySpans({ rollout_id: queued.rollout_id });
  console.log(`${finished.status}, with ${span.attributes.tokens.int_value} tokens in span '${span.name}'`);
}

// Call an actor: for an answer, a stream, an error, and in vain.
async function count(counter) {
  const { value: counted } = await counter.Add({ amount: 2, by: "node" });
  console.log("counted", counted.by);

  const seen = [];
  for await (const item of counter.CountTo({ end: 3 })) seen.push(item.value.value);
  console.log("stream", seen);

  await counter.Add({ amount: 10_000_000 }).catch((error) => {
    console.log("error", grpc.status[error.code], error.details);
  });

  const stream = counter.CountTo({ end: 1000 });
  stream.on("error", (error) => console.log("cancelled", grpc.status[error.code]));
  await new Promise((resolve) => stream.once("data", resolve));
  stream.cancel(); // the handler ends at its next yield: see what the server prints

  await counter.WaitForEver({}, { deadline: Date.now() + 300 }).catch((error) => {
    console.log("deadline", grpc.status[error.code]);
  });
}

async function main() {
  const store = clientOf(protos.lightactors.v1.Store);
  const counter = clientOf(protos.demo.v1.Counter);
  await runARollout(store);
  await count(counter);
  store.close();
  counter.close();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
