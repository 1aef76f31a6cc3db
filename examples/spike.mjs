// The library in Node, by koffi (npm install koffi): sign(), token() and invalidate() of one client for the process, whose
// settings are in the environment. A token that is kept is returned at once. Calls that wait do so in the library, and one
// thread of koffi waits for the descriptor that tells which have ended.

import koffi from "koffi";

// As in spike_auth.h and poll.h.
const [SIGNATURE_SIZE, TOKEN_SIZE, NOT_CACHED, POLLIN] = [65, 8193, 12, 1];

for (const name of ["config", "client", "call", "queue"]) koffi.opaque(`spike_auth_${name}`);
koffi.struct("spike_auth_error", {
  status: "int32_t", http_status: "int32_t", retry_after_ms: "int64_t", attempts: "uint32_t", retryable: "uint32_t",
  message: koffi.array("char", 424), reserved: koffi.array("uint64_t", 8),
});
koffi.struct("pollfd", { fd: "int", events: "short", revents: "short" });
const library = koffi.load("libspike_auth.so.1");
const poll = koffi.load(null).func("int poll(pollfd *fds, unsigned long count, int timeout_ms)");

// A function that throws the detail of a failure.
function declare(name, parameters) {
  const call = library.func(`int32_t spike_auth_${name}(${parameters}, _Out_ spike_auth_error *err)`);
  return (...inputs) => {
    const error = {};
    if (call(...inputs, error) === 0) return;
    const { message, reserved, ...detail } = error;
    throw Object.assign(new Error(message), detail);
  };
}

// One that writes a text.
function declareText(name, parameters, size) {
  const call = declare(name, `${parameters}, _Out_ char *out, size_t cap, _Out_ size_t *len`);
  return (...inputs) => {
    const [out, length] = [Buffer.alloc(size), [0]];
    call(...inputs, out, size, length);
    const text = out.latin1Slice(0, Number(length[0]));
    out.fill(0);
    return text;
  };
}

const user = "spike_auth_client *client, const char *user_id, size_t user_id_len";
const signUser = declareText("client_sign_user", user, SIGNATURE_SIZE);
const peekToken = declareText("client_peek_token", user, TOKEN_SIZE);
const reject = declare("client_invalidate", `${user}, const char *token, size_t token_len`);
const newCall = declare("call_new", "_Out_ spike_auth_call **call");
const startToken = declare("client_start_token", `${user}, spike_auth_call *call, spike_auth_queue *queue, uint64_t tag`);
const callToken = declareText("call_get_token", "spike_auth_call *call", TOKEN_SIZE);
const callFree = library.func("void spike_auth_call_free(spike_auth_call *call)");
const take = declare("queue_take", "spike_auth_queue *queue, _Out_ uint64_t *tags, size_t cap, _Out_ size_t *count");

const [config, made, madeQueue] = [[null], [null], [null]];
declare("config_new", "_Out_ spike_auth_config **config")(config);
declare("config_load_env", "spike_auth_config *config")(config[0]);
declare("client_new", "spike_auth_config *config, _Out_ spike_auth_client **client")(config[0], made);
declare("queue_new", "_Out_ spike_auth_queue **queue")(madeQueue);
const [client, queue] = [made[0], madeQueue[0]];
const descriptor = library.func("int spike_auth_queue_fd(spike_auth_queue *queue)")(queue);

export function sign(userId) {
  return signUser(client, userId, Buffer.byteLength(userId));
}

// The service refused the token: the next call returns another.
export function invalidate(userId, token) {
  reject(client, userId, Buffer.byteLength(userId), token, token.length);
}

export async function token(userId) {
  const id = [userId, Buffer.byteLength(userId)];
  try {
    return peekToken(client, ...id);
  } catch (error) {
    if (error.status !== NOT_CACHED) throw error;
  }
  const call = [null];
  newCall(call);
  try {
    const tag = ++lastTag;
    startToken(client, ...id, call[0], queue, tag);
    const ended = new Promise((resolve) => waiting.set(tag, resolve));
    if (waiting.size === 1) handOut();
    await ended;
    return callToken(call[0]);
  } finally {
    callFree(call[0]);
  }
}

// What to call when the call of a tag has ended.
const waiting = new Map();
let lastTag = 0n;

// Runs while calls are under way.
async function handOut() {
  while (waiting.size > 0) {
    await new Promise((readable) => poll.async([{ fd: descriptor, events: POLLIN, revents: 0 }], 1, -1, readable));
    const [tags, count] = [new BigUint64Array(64), [0]];
    take(queue, tags, tags.length, count);
    for (const tag of tags.subarray(0, Number(count[0]))) {
      waiting.get(tag)();
      waiting.delete(tag);
    }
  }
}
