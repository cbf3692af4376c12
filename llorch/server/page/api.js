// What the page asks the server, and what can go wrong then.
import { askForKey, forgetKey, readKey } from "./key.js";
import { eventsOf } from "./sse.js";

/**
 * A request that failed. `kind` says how: "key" (no key was given), "busy" (too many wait), "loading" (the model is
 * not ready), "long" (the context or a limit is too small), "refused" (another fault of the request), "failed" (the
 * server's fault), "lost" (no connection), "stopped" (the reader wanted so).
 */
export class ApiError extends Error {
  constructor(kind, message, { retryAfterS = 2 } = {}) {
    super(message);
    this.kind = kind;
    this.retryAfterS = retryAfterS;
  }
}

/** A response with status 200; asks for a key where one is missing. Paths are relative: a proxy may add a prefix. */
async function send(path, options = {}) {
  for (;;) {
    const key = readKey();
    const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
    } catch (error) {
      throw connectionError(error);
    }
    if (response.ok) return response;
    if (response.status !== 401) throw await errorOf(response);
    if (key === readKey()) {
      forgetKey();
      if (!(await askForKey(key !== null))) throw new ApiError("key", "The server asks for an API key.");
    }
  }
}

function connectionError(error) {
  if (error.name === "AbortError") return new ApiError("stopped", "Stopped.");
  return new ApiError("lost", "The connection to the server is lost.");
}

async function errorOf(response) {
  const { status } = response;
  const error = (await response.json().catch(() => null))?.error ?? {};
  const message = typeof error.message === "string" ? error.message : `The server answered with status ${status}.`;
  const retryAfterS = Number(response.headers.get("Retry-After")) || 2;
  if (status === 503) return new ApiError(error.code === "overloaded" ? "busy" : "loading", message, { retryAfterS });
  if (status === 429) return new ApiError("busy", message, { retryAfterS });
  if (error.code === "context_length_exceeded" || status === 413) return new ApiError("long", message);
  if (error.param === "messages" && /characters of all messages/.test(message)) return new ApiError("long", message);
  if (status >= 500) return new ApiError("failed", message);
  return new ApiError("refused", message);
}

/** {stage, reason} of the model; stage is "ready" when requests are taken, "lost" when nobody answers. */
export async function readStage() {
  try {
    const response = await fetch("ready", { cache: "no-store", credentials: "omit" });
    return await response.json();
  } catch {
    return { stage: "lost" };
  }
}

/** The model's name, its context in tokens, and the server's defaults of sampling. */
export async function readModel() {
  const [models, props] = [await (await send("v1/models")).json(), await (await send("props")).json()];
  return {
    name: models.data[0].id,
    contextTokens: models.data[0].max_model_len,
    takesSystemPrompt: props.chat_template_caps.supports_system_role,
  };
}

/** The chunks of an answer as they come. Raises ApiError, also where the stream ends too early. */
export async function* streamAnswer(body, signal) {
  const options = { stream: true, stream_options: { include_usage: true }, return_progress: true };
  const response = await send("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, ...options }),
    signal,
  });
  try {
    for await (const data of eventsOf(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError("failed", chunk.error.message);
      yield chunk;
    }
  } catch (error) {
    throw error instanceof ApiError ? error : connectionError(error);
  }
  throw new ApiError("lost", "The connection was lost in the middle of the answer.");
}
