// What is said about an answer: how far it is, how fast it was, how much of the prompt was known.
import { speedOf } from "./answering.js";

const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en");

export function progressWords(run) {
  switch (run.phase) {
    case "busy":
      return `The server is busy. Next try in ${run.waitS} s…`;
    case "loading":
      return "The model is still being loaded…";
    case "reading":
      if (run.read < run.total) return `Reading the chat: ${Math.floor((100 * run.read) / run.total)} %`;
      return "Thinking…";
    case "writing":
      return run.tokens > 4 ? `${one.format(speedOf(run))} tokens/s` : "";
    default:
      return "Waiting…";
  }
}

/** Clauses for the line below an answer. */
export function statsWords(stats) {
  const words = [];
  if (stats.tokensPerSecond > 0) words.push(`${one.format(stats.tokensPerSecond)} tokens/s`);
  if (stats.tokens > 0) words.push(`${whole.format(stats.tokens)} ${stats.tokens === 1 ? "token" : "tokens"}`);
  if (stats.promptTokens > 0) {
    words.push(`${whole.format(stats.cachedTokens ?? 0)} of ${whole.format(stats.promptTokens)} prompt tokens cached`);
  }
  if (stats.firstTokenMs > 0) words.push(`first after ${one.format(stats.firstTokenMs / 1000)} s`);
  return words;
}
