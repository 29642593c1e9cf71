// What is going on: the counts of now, and the last hours.

import { Chart } from "./chart.js";
import { Figure, Live, html } from "./view.js";
import * as api from "./api.js";
import { bytes, count, short, span as duration } from "./format.js";

const HOURS = [1, 3, 12, 24];
const HISTORY_MS = 20_000;

const SPANS_LEAST = 15;

// Return the spans from the first one on of which the server knows something.
function known(spans) {
  const first = spans.findIndex((span) => span.succeeded !== undefined);
  return spans.slice(Math.max(Math.min(first - 1, spans.length - SPANS_LEAST), 0));
}

export class Overview extends Live {
  async load(signal) {
    const hours = this.props.query.hours ?? 3;
    const stats = await api.get("/stats", signal);
    // A chart of hours need not be drawn anew every other second.
    if (!this.history || Date.now() - this.readAt > HISTORY_MS || this.hours !== hours) {
      this.history = await api.get(api.path(["history"], { hours }), signal);
      this.readAt = Date.now();
      this.hours = hours;
    }
    return { stats, history: known(this.history.spans), width_s: this.history.seconds };
  }

  show({ stats, history, width_s }) {
    const { jobs, workers } = stats;
    const times = history.map((span) => span.begin);
    const of = (pick) => history.map(pick);
    const rate = (name) => of((span) => (span[name] === undefined ? null : span[name] / width_s));
    const hours = Number(this.props.query.hours ?? 3);
    const recent = history.slice(-2);
    const ended = recent.reduce((sum, span) => sum + (span.succeeded ?? 0) + (span.failed ?? 0) + (span.cancelled ?? 0), 0);
    return html`
      <h1>Overview</h1>
      ${stats.draining && html`<p class="banner">The server is draining: it accepts no new jobs.</p>`}
      <dl class="figures">
        <${Figure} name="Waiting" value=${count(stats.waiting)} hint=${`of ${count(stats.queue_size)} places`} />
        <${Figure} name="Running" value=${`${count(jobs.running)} / ${count(workers.count)}`} hint="of so many workers" />
        <${Figure} name="Oldest waits" value=${duration(stats.queue_oldest_ms / 1000)} />
        <${Figure} name="Ended per second" value=${short(ended / Math.max(recent.length * width_s, 1))} hint="over the last minutes" />
        <${Figure} name="Succeeded" value=${count(jobs.succeeded)} />
        <${Figure} name="Failed" value=${count(jobs.failed)} tone=${jobs.failed ? "bad" : ""} />
        <${Figure} name="Retries" value=${count(stats.retries)} />
        <${Figure} name="Payloads" value=${bytes(stats.payload_bytes)} hint="of unfinished jobs" />
      </dl>
      <p class="filters">
        Last
        ${HOURS.map(
          (choice) =>
            html` <a href=${`#/?hours=${choice}`} aria-current=${choice === hours ? "true" : undefined}>${choice} h</a>`,
        )}
      </p>
      <div class="charts">
        <${Chart} title="Jobs per second" times=${times} text=${(value) => short(value ?? 0)}
          series=${{ succeeded: rate("succeeded"), failed: rate("failed"), cancelled: rate("cancelled") }} />
        <${Chart} title="Jobs" times=${times} text=${(value) => count(value)}
          series=${{ waiting: of((span) => span.waiting), running: of((span) => span.running) }} />
        <${Chart} title="Wait" times=${times} text=${(value) => duration(value)}
          series=${{ median: of((span) => span.wait?.p50), p95: of((span) => span.wait?.p95) }} />
        <${Chart} title="Run" times=${times} text=${(value) => duration(value)}
          series=${{ median: of((span) => span.run?.p50), p95: of((span) => span.run?.p95) }} />
      </div>
    `;
  }
}
