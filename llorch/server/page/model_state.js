// Which model the server has, and whether it takes requests.
//
// Event "change": `stage`, `name` or another property has another value.
import { readModel, readStage } from "./api.js";

const AGAIN_MS = 1000;

export class ModelState extends EventTarget {
  stage = "connecting";
  reason = "";
  name = "";
  contextTokens = 0;
  takesSystemPrompt = true;
  #checking = null;

  get isReady() {
    return this.stage === "ready";
  }

  /** Ask until the model is ready. */
  check() {
    this.#checking ??= this.#untilReady().finally(() => (this.#checking = null));
    return this.#checking;
  }

  /** Wait for the model, or for the end of the wish for it. */
  async untilReady(signal) {
    const aborted = new Promise(resolve => signal.addEventListener("abort", resolve, { once: true }));
    this.#set({ stage: "connecting" });
    await Promise.race([this.check(), aborted]);
  }

  async #untilReady() {
    for (;;) {
      const { stage, reason = "" } = await readStage();
      if (stage === "ready") break;
      this.#set({ stage: stage ?? "connecting", reason });
      await new Promise(resolve => setTimeout(resolve, AGAIN_MS));
    }
    if (this.name && this.isReady) return;
    try {
      this.#set({ ...(await readModel()), stage: "ready", reason: "" });
    } catch (error) {
      this.#set({ stage: error.kind === "key" ? "locked" : "lost", reason: error.message });
    }
  }

  #set(values) {
    Object.assign(this, values);
    this.dispatchEvent(new Event("change"));
  }
}
