// One pulse for the page: at each beat the screen asks for what it shows. A hidden page asks for nothing.

import { Away } from "./api.js";

const BEAT_MS = 2500;
const AWAY_MOST_MS = 10_000;

// What asks at each beat, and what ends its present request.
const asks = new Map();
const listeners = new Set();
// What runs while the page is shown, and what ends it.
const streams = new Map();
let timer = 0;
// Beats in a row that got no answer, and since when.
let missed = 0;
export const health = { awaySince: 0, fault: null };

// Have `ask(signal)` called now and at each beat. Returns a function that ends this.
export function at(ask) {
  asks.set(ask, null);
  round([ask]);
  if (!timer) later();
  return () => {
    asks.get(ask)?.abort();
    asks.delete(ask);
  };
}

// Have `begin()` called while the page is shown. It returns a function that ends what it began, as this does.
export function whileShown(begin) {
  streams.set(begin, document.hidden ? null : begin());
  return () => {
    streams.get(begin)?.();
    streams.delete(begin);
  };
}

export function onHealth(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// Ask now, such as after an act of the person.
export async function beat() {
  clearTimeout(timer);
  await round([...asks.keys()]);
  later();
}

function later() {
  clearTimeout(timer);
  if (document.hidden) return;
  // With a little chance, so that many pages do not come at once after the server was away.
  const pause = Math.min(BEAT_MS * 1.5 ** missed, AWAY_MOST_MS);
  timer = setTimeout(beat, pause * (0.9 + Math.random() / 5));
}

// Have some of them ask once. An ask that has not got its answer begins anew.
export async function round(some) {
  if (document.hidden) return;
  const results = await Promise.allSettled(
    some.map((ask) => {
      asks.get(ask)?.abort();
      const controller = new AbortController();
      if (asks.has(ask)) asks.set(ask, controller);
      return ask(controller.signal);
    }),
  );
  const faults = results.map((result) => result.reason).filter((fault) => fault && fault.name !== "AbortError");
  const isAnswered = results.some((result) => result.status === "fulfilled") || faults.length > 0;
  if (!isAnswered) return;
  const away = faults.some((fault) => fault instanceof Away);
  missed = away ? missed + 1 : 0;
  if (!away) health.awaySince = 0;
  else if (!health.awaySince) health.awaySince = Date.now();
  health.fault = away ? null : (faults[0] ?? null);
  for (const listener of listeners) listener();
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
    for (const controller of asks.values()) controller?.abort();
    for (const [begin, end] of streams) {
      end?.();
      streams.set(begin, null);
    }
  } else {
    for (const begin of streams.keys()) streams.set(begin, begin());
    beat();
  }
});
