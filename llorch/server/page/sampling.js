// How tokens are chosen, as the reader wants it: the fields of a request, kept in localStorage. What is absent is the
// server's matter.
import { readLocal, writeLocal } from "./local.js";

const KEY = "llorch.sampling";
const INT32_MAX = 2 ** 31 - 1;

/** Ranges are those of the API. */
export const FIELDS = [
  ["temperature", "Temperature", 0, 2, false, "0: always the most probable token"],
  ["top_p", "Top p", 0, 1, false, "Keep the likeliest up to this sum; 1: all"],
  ["top_k", "Top k", 0, INT32_MAX, true, "Keep so many of the likeliest; 0: all"],
  ["min_p", "Min p", 0, 1, false, "Drop what is below this share of the likeliest"],
  ["max_tokens", "Max tokens", 1, INT32_MAX, true, "Of each answer; else the context’s end"],
  ["seed", "Seed", 0, 2 ** 53 - 1, true, "The same seed gives the same answer"],
  ["repeat_penalty", "Repeat penalty", 0.01, 2, false, "Above 1: fewer repetitions"],
  ["presence_penalty", "Presence penalty", -2, 2, false, "Above 0: more new words"],
  ["frequency_penalty", "Frequency penalty", -2, 2, false, "Above 0: fewer frequent words"],
].map(([name, label, min, max, isWhole, help]) => ({ name, label, min, max, isWhole, help }));

/** The number that `text` is for `field`, undefined where nothing is said. Throws words about what is wrong. */
export function numberOf(field, text) {
  const given = text.trim().replace(",", ".");
  if (!given) return undefined;
  const value = Number(given);
  const isRight = field.isWhole ? Number.isSafeInteger(value) : Number.isFinite(value);
  if (!isRight || value < field.min || value > field.max) {
    const kind = field.isWhole ? "a whole number" : "a number";
    throw new RangeError(`${kind} from ${field.min} to ${field.max}`);
  }
  return value;
}

export function readSampling() {
  let kept;
  try {
    kept = JSON.parse(readLocal(KEY) ?? "{}");
  } catch {
    return {};
  }
  const known = FIELDS.filter(field => {
    try {
      return typeof kept?.[field.name] === "number" && numberOf(field, String(kept[field.name])) !== undefined;
    } catch {
      return false;
    }
  });
  return Object.fromEntries(known.map(({ name }) => [name, kept[name]]));
}

export function writeSampling(values) {
  return writeLocal(KEY, JSON.stringify(values));
}
