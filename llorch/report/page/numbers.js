// Numbers as people read them; JSON has infinities as words.

const number = value => (typeof value === "string" ? Number(value.replace("inf", "Infinity")) : value);

function figure(value, digits = 4) {
  const x = number(value);
  if (x === null || x === undefined) return "–";
  if (!Number.isFinite(x)) return String(x).replace("Infinity", "∞");
  if (x === 0) return "0";
  const size = Math.abs(x);
  return size >= 1e-3 && size < 1e6 ? String(Number(x.toPrecision(digits))) : x.toExponential(Math.min(digits, 3) - 1);
}

function duration(seconds) {
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]]) {
    if (seconds >= size) return `${Number((seconds / size).toPrecision(3))} ${unit}`;
  }
  return `${Math.round(seconds * 1e9)} ns`;
}

const percent = share => `${figure(100 * share, share < 0.0995 ? 2 : 3)} %`;
