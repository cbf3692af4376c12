// Answers on their way: each chat has at most one, and goes on with it while another chat is shown.
import { ApiError, streamAnswer } from "./api.js";
import { addMessage, requestMessages } from "./conversation.js";

const ENDS = {
  length: "Ended at the limit of tokens.",
  abort: "The server stopped before the answer was complete.",
};

/** What the reader is told about a failure, where the error's own words are not enough. */
const WORDS = {
  stopped: () => "Stopped.",
  long: message => `This chat is too long for the model: begin a new one, or shorten it. (${message})`,
  refused: message => `The server does not take this: ${message}`,
};

export class Answering extends EventTarget {
  #chats;
  #model;
  #sampling;
  /** By the chat's id: {message, controller, phase, read, total, tokens, firstMs, waitS}. */
  #runs = new Map();

  /** `sampling` gives the fields of a request that say how tokens are chosen. */
  constructor(chats, model, sampling) {
    super();
    this.#chats = chats;
    this.#model = model;
    this.#sampling = sampling;
  }

  isRunning(conversation) {
    return this.#runs.has(conversation.id);
  }

  /** How far the answer `message` is, while it grows. */
  progressOf(conversation, message) {
    const run = this.#runs.get(conversation.id);
    return run?.message === message ? run : null;
  }

  stop(conversation) {
    this.#runs.get(conversation.id)?.controller.abort();
  }

  /** Let the model answer the message `asked` of a chat. */
  async answer(conversation, asked) {
    if (this.isRunning(conversation)) return;
    const message = addMessage(conversation, asked.id, "assistant", "");
    Object.assign(message, { status: "streaming", note: "", model: this.#model.name });
    const run = { message, controller: new AbortController(), phase: "waiting", tokens: 0, startMs: performance.now() };
    this.#runs.set(conversation.id, run);
    this.#tell("start", conversation);
    await this.#chats.save(conversation);
    try {
      const messages = requestMessages(conversation, asked.id);
      await this.#untilTaken(conversation, run, { messages, ...this.#sampling() });
      message.status = "done";
    } catch (error) {
      this.#fail(message, error);
    }
    if (!message.stats && run.tokens) message.stats = ownStats(run);
    this.#runs.delete(conversation.id);
    this.#chats.touch(conversation, message);
    this.#tell("end", conversation, message);
    await this.#chats.save(conversation);
  }

  /** Ask again while the server is busy or loads its model. */
  async #untilTaken(conversation, run, body) {
    for (;;) {
      try {
        return await this.#stream(conversation, run, body);
      } catch (error) {
        if (!["busy", "loading"].includes(error.kind)) throw error;
        await this.#wait(conversation, run, error);
      }
    }
  }

  async #wait(conversation, run, { kind, retryAfterS }) {
    const { signal } = run.controller;
    run.phase = kind;
    if (kind === "loading") {
      this.#chats.touch(conversation, run.message);
      await this.#model.untilReady(signal);
    }
    for (run.waitS = Math.min(Math.ceil(retryAfterS), 60); kind === "busy" && run.waitS > 0; run.waitS -= 1) {
      this.#chats.touch(conversation, run.message);
      await pause(1000, signal);
    }
    if (signal.aborted) throw new ApiError("stopped", "Stopped.");
    Object.assign(run, { phase: "waiting", startMs: performance.now() });
  }

  async #stream(conversation, run, body) {
    const { message } = run;
    for await (const chunk of streamAnswer(body, run.controller.signal)) {
      const [choice] = chunk.choices;
      if (chunk.prompt_progress) {
        const { processed, total } = chunk.prompt_progress;
        Object.assign(run, { phase: "reading", read: processed, total });
      }
      if (choice?.delta?.content) {
        message.content += choice.delta.content;
        run.phase = "writing";
        run.firstMs ??= performance.now();
        run.lastMs = performance.now();
        run.tokens += 1;
      }
      if (choice?.finish_reason) message.note = ENDS[choice.finish_reason] ?? "";
      if (chunk.usage) message.stats = statsOf(chunk, run);
      this.#chats.touch(conversation, message);
    }
  }

  #fail(message, error) {
    message.status = error.kind === "stopped" ? "stopped" : "failed";
    message.note = WORDS[error.kind]?.(error.message) ?? error.message;
    if (error.kind === "lost") this.#model.check();
    if (!(error instanceof ApiError)) console.error(error); // a fault of this page
  }

  #tell(type, conversation, message) {
    this.dispatchEvent(new CustomEvent(type, { detail: { conversation, message } }));
  }
}

function statsOf({ usage, timings }, run) {
  return {
    tokens: usage.completion_tokens,
    tokensPerSecond: timings.predicted_per_second,
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_tokens_details.cached_tokens,
    firstTokenMs: (run.firstMs ?? performance.now()) - run.startMs,
  };
}

/** What the page has seen by itself of an answer that was cut off. */
function ownStats(run) {
  return { tokens: run.tokens, tokensPerSecond: speedOf(run), firstTokenMs: run.firstMs - run.startMs };
}

/** Tokens per second so far; a chunk is a token, nearly always. */
export function speedOf({ tokens, firstMs, lastMs }) {
  return tokens > 1 ? ((tokens - 1) * 1000) / Math.max(lastMs - firstMs, 1) : 0;
}

export function pause(ms, signal) {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
