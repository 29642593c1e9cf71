// One pulse for the page: at each beat the screen asks for what it shows. A hidden page asks for nothing.

import { Away } from "./api.js";

const BEAT_MS = 2000;
const AWAY_MOST_MS = 10_000;

const asks = new Set();
const listeners = new Set();
let timer = 0;
let beating = null;
// Beats in a row that got no answer, and since when.
let missed = 0;
export const health = { awaySince: 0, fault: null };

// Have `ask(signal)` called now and at each beat. Returns a function that ends this.
export function at(ask) {
  asks.add(ask);
  beat();
  return () => asks.delete(ask);
}

export function onHealth(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// Ask now, such as after an act of the person.
export async function beat() {
  clearTimeout(timer);
  if (document.hidden) return;
  beating?.abort();
  const controller = (beating = new AbortController());
  const results = await Promise.allSettled([...asks].map((ask) => ask(controller.signal)));
  if (controller.signal.aborted) return;
  const faults = results.filter((result) => result.status === "rejected").map((result) => result.reason);
  const away = faults.some((fault) => fault instanceof Away);
  missed = away ? missed + 1 : 0;
  if (!away) health.awaySince = 0;
  else if (!health.awaySince) health.awaySince = Date.now();
  health.fault = away ? null : (faults.find((fault) => fault.name !== "AbortError") ?? null);
  for (const listener of listeners) listener();
  // With a little chance, so that many pages do not come at once after the server was away.
  const pause = Math.min(BEAT_MS * 1.5 ** missed, AWAY_MOST_MS);
  timer = setTimeout(beat, pause * (0.9 + Math.random() / 5));
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
    beating?.abort();
  } else beat();
});
