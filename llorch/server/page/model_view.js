// The line at the top: which model answers, and whether it can.
import { byId, element } from "./dom.js";

const STAGES = {
  connecting: "connecting…",
  lost: "no connection, trying again…",
  locked: "needs an API key",
  loading: "the model is loading…",
  compiling: "compiling for this CPU…",
  stopping: "the server is stopping…",
  stopped: "the server has stopped",
  failed: "the model failed",
  model_changed: "the model’s file has changed: the server needs a new start",
};
const BROKEN = new Set(["lost", "locked", "stopped", "failed", "model_changed"]);
const whole = new Intl.NumberFormat("en");

export function showModel(model) {
  const dot = byId("model-dot");
  const state = byId("model-state");
  dot.dataset.state = model.isReady ? "ready" : BROKEN.has(model.stage) ? "lost" : "busy";
  const name = byId("model-name");
  name.textContent = model.name || "llorch";
  name.title = name.textContent; // a narrow screen cuts it
  const words = model.isReady ? "" : (STAGES[model.stage] ?? `${model.stage}…`);
  if (state.textContent !== words) state.textContent = words;
  state.title = model.reason;
  if (!model.isReady) return;
  byId("welcome-text").replaceChildren(
    element("bdi", {}, model.name),
    ` runs on this server. A chat can hold ${whole.format(model.contextTokens)} tokens.`,
  );
}
