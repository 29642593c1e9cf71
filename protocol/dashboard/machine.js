// The states of a job and the moves between them, drawn with those that a job has made.

import { html } from "./view.js";

const WIDTH = 84;
const HEIGHT = 26;
// The middle of each state in the drawing.
const PLACES = {
  scheduled: [45, 22],
  queued: [45, 76],
  running: [180, 76],
  retrying: [180, 130],
  succeeded: [315, 22],
  failed: [315, 76],
  cancelled: [315, 130],
};
const MOVES = [
  ["scheduled", "queued"],
  ["queued", "running"],
  ["running", "retrying"],
  ["retrying", "queued"],
  ["running", "succeeded"],
  ["running", "failed"],
  ["running", "cancelled"],
];

// Return the ends of the line from one state to another, at the edges of their boxes.
function ends([from, to]) {
  const [x1, y1] = PLACES[from];
  const [x2, y2] = PLACES[to];
  if (x1 === x2) return [x1, y1 + HEIGHT / 2, x2, y2 - HEIGHT / 2 - 5];
  const way = Math.sign(x2 - x1);
  return [x1 + (way * WIDTH) / 2, y1, x2 - way * (WIDTH / 2 + 5), y2 + (from === "retrying" ? HEIGHT / 2 : 0)];
}

// Return the steps of a job: each state that it came to, and when if that is known.
export function steps(job) {
  const found = job.state === "scheduled" ? [["scheduled", job.submitted]] : [["queued", job.submitted]];
  for (const { started, ended, outcome } of job.attempts ?? []) {
    if (started) found.push(["running", started]);
    if (ended && outcome === "failed") found.push(["retrying", ended]);
  }
  // The last failure was the end.
  if (found.at(-1)[0] === "retrying" && job.ended) found.pop();
  if (job.ended) found.push([job.state, job.ended]);
  else if (job.state !== found.at(-1)[0]) found.push([job.state, ""]);
  return found;
}

export function Machine({ job }) {
  const road = steps(job).map(([state]) => state);
  const times = (state) => road.filter((one) => one === state).length;
  // From one attempt to the next a job is queued, which no time tells.
  const whole = road.flatMap((state, at) => (state === "running" && road[at - 1] === "retrying" ? ["queued", state] : [state]));
  const isTaken = ([from, to]) => whole.some((state, at) => state === to && whole[at - 1] === from);
  return html`<svg class="machine" viewBox="0 0 360 152" role="img" aria-label=${`Its states: ${road.join(", ")}`}>
    <defs>
      ${["way", "taken"].map((kind) => html`<marker id=${kind} class=${kind} viewBox="0 0 6 6" refX="1" refY="3" markerWidth="5" markerHeight="5" orient="auto"><path d="M0,0 6,3 0,6z" /></marker>`)}
    </defs>
    ${MOVES.map((move) => {
      const [x1, y1, x2, y2] = ends(move);
      const kind = isTaken(move) ? "taken" : "way";
      return html`<line class=${kind} x1=${x1} y1=${y1} x2=${x2} y2=${y2} marker-end=${`url(#${kind})`} />`;
    })}
    ${Object.entries(PLACES).map(([state, [x, y]]) => {
      const n = times(state);
      const kind = state === job.state ? `${state} now` : n ? state : "unseen";
      return html`<g class=${kind}>
        <rect x=${x - WIDTH / 2} y=${y - HEIGHT / 2} width=${WIDTH} height=${HEIGHT} rx="13" />
        <text x=${x} y=${y + 4}>${state}${n > 1 ? ` ×${n}` : ""}</text>
      </g>`;
    })}
  </svg>`;
}
