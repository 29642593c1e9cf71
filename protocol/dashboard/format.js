// Values as text for a person.

const NUMBER = new Intl.NumberFormat();
const COMPACT = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => (value === undefined ? "–" : NUMBER.format(value));
export const short = (value) => (value < 10_000 ? NUMBER.format(Math.round(value * 10) / 10) : COMPACT.format(value));

// Return a description without the marks of code in it.
export const plain = (text) => text.replaceAll("``", "");

// Return a time span in its two largest units, such as "3 m 20 s".
export function span(seconds) {
  if (seconds === undefined || seconds === null || Number.isNaN(seconds)) return "–";
  if (seconds < 0.0005) return "0 s";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  for (const [unit, length, next, nextLength] of [
    ["d", 86_400, "h", 3600],
    ["h", 3600, "m", 60],
    ["m", 60, "s", 1],
  ]) {
    if (whole >= length) {
      const rest = Math.floor((whole % length) / nextLength);
      return `${Math.floor(whole / length)} ${unit}${rest ? ` ${rest} ${next}` : ""}`;
    }
  }
  return `${whole} s`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) [value, at] = [value / 1024, at + 1];
  return `${at ? value.toFixed(1) : value} ${units[at]}`;
}

// The clock of this machine may differ from the server's, so ages go by the server's.
let ahead = 0;
export function setClock(date) {
  const now = Date.parse(date);
  if (!Number.isNaN(now)) {
    // A Date field has whole seconds.
    const seen = Date.now() - now;
    if (Math.abs(seen - ahead) > 1500) ahead = seen;
  }
}
export const now = () => Date.now() - ahead;
export const since = (iso) => Math.max((now() - Date.parse(iso)) / 1000, 0);

// Return the local time of a moment: without the date if that is today.
export function time(iso) {
  if (!iso) return "–";
  const date = new Date(iso);
  const today = new Date(now()).toDateString() === date.toDateString();
  return today ? date.toLocaleTimeString() : date.toLocaleString();
}

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

// Return JSON text with an indent. Numbers stay as they were written, so large ones stay exact.
export function pretty(text) {
  JSON.parse(text);
  let depth = 0;
  let before = "";
  let out = "";
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of text.matchAll(TOKENS)) {
    const opened = before === "{" || before === "[";
    if (token === "}" || token === "]") {
      depth -= 1;
      out += opened ? token : line() + token;
    } else if (token === ",") out += ",";
    else if (token === ":") out += ": ";
    else {
      out += (opened || before === "," ? line() : "") + token;
      if (token === "{" || token === "[") depth += 1;
    }
    before = token;
  }
  return out;
}

export const states = ["scheduled", "queued", "running", "retrying", "succeeded", "failed", "cancelled"];
export const unfinished = ["scheduled", "queued", "running", "retrying"];
export const isOver = (state) => !unfinished.includes(state);
