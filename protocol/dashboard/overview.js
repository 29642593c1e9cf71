// What is going on: the counts of now, and the last hours.

import { Chart } from "./chart.js";
import { Figure, Live, html } from "./view.js";
import * as api from "./api.js";
import { bytes, count, short, span } from "./format.js";

const HOURS = [1, 3, 12, 24];

export class Overview extends Live {
  async load(signal) {
    const hours = this.props.query.hours ?? 3;
    const [stats, history] = await Promise.all([
      api.get("/stats", signal),
      api.get(api.path(["history"], { hours }), signal),
    ]);
    return { stats, history: history.buckets, width_s: history.bucket_seconds };
  }

  show({ stats, history, width_s }) {
    const { jobs, workers } = stats;
    const times = history.map((bucket) => bucket.at);
    const of = (pick) => history.map(pick);
    const rate = (name) => of((bucket) => bucket[name] / width_s);
    const hours = Number(this.props.query.hours ?? 3);
    const recent = history.slice(-5);
    const ended = recent.reduce((sum, bucket) => sum + bucket.succeeded + bucket.failed + bucket.cancelled, 0);
    return html`
      <h1>Overview</h1>
      ${stats.draining && html`<p class="banner">The server is draining: it accepts no new jobs.</p>`}
      <dl class="figures">
        <${Figure} name="Waiting" value=${count(stats.waiting)} hint=${`of ${count(stats.queue_size)} places`} />
        <${Figure} name="Running" value=${`${count(jobs.running)} / ${count(workers.count)}`} hint="of so many workers" />
        <${Figure} name="Oldest waits" value=${span(stats.queue_oldest_ms / 1000)} />
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
          series=${{ waiting: of((bucket) => bucket.waiting), running: of((bucket) => bucket.running) }} />
        <${Chart} title="Wait" times=${times} text=${(value) => span(value)}
          series=${{ median: of((bucket) => bucket.wait?.p50), p95: of((bucket) => bucket.wait?.p95) }} />
        <${Chart} title="Run" times=${times} text=${(value) => span(value)}
          series=${{ median: of((bucket) => bucket.run?.p50), p95: of((bucket) => bucket.run?.p95) }} />
      </div>
    `;
  }
}
