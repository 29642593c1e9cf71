// One job: its life, attempts, log, payload and result, and what a person can do with it.

import { Act, Component, Copy, Live, Moment, State, Took, html } from "./view.js";
import * as api from "./api.js";
import * as pulse from "./pulse.js";
import { follow } from "./events.js";
import { Machine, steps } from "./machine.js";
import { bytes, count, isOver, pretty, span, unfinished } from "./format.js";

// Of a log or a result no more than this is shown. The rest can be saved.
const SHOWN_BYTES = 256 * 1024;
const NOT_HERE = [404, 410, 421, 424];

// A job that has ended changes only if it is forgotten.
const OVER_MS = 10_000;

export class Job extends Live {
  // An event tells that the job has moved: what it is now is asked at once.
  componentDidUpdate(before) {
    super.componentDidUpdate(before);
    const { id } = this.props;
    if (before.id !== id) {
      this.unlisten?.();
      this.unlisten = undefined;
    } else if (!this.unlisten && this.state.data && !isOver(this.state.data.state)) {
      const url = api.path(["jobs", id, "events"]);
      this.unlisten = pulse.whileShown(() => follow(url, this.now));
    }
  }

  componentWillUnmount() {
    this.unlisten?.();
    super.componentWillUnmount();
  }

  forget = async (job) => {
    await remove(job);
    this.askedAt = -OVER_MS;
    this.setState(({ forgotten = 0 }) => ({ forgotten: forgotten + 1 }));
  };

  async load(signal) {
    const had = this.state.data;
    if (had && isOver(had.state) && performance.now() - this.askedAt < OVER_MS) return had;
    this.askedAt = performance.now();
    const response = await api.send("GET", api.path(["jobs", this.props.id]), { signal, allow: NOT_HERE });
    const job = await response.json();
    if (!job.id) throw new api.Refused(response.status, job);
    return job;
  }

  show(job) {
    const over = isOver(job.state);
    return html`
      <h1><${State} state=${job.state} /> <a href=${`#${api.path(["jobs"], { task: job.task })}`}>${job.task}</a></h1>
      <p class="mono wrap">${job.id} <${Copy} text=${() => curlOf(job)}>Copy as curl<//></p>
      <p class="acts">
        ${job.state === "failed" && html`<${Act} act=${() => retry(job)}>Retry<//>`}
        ${unfinished.includes(job.state) && html`<${Act} kind="danger" confirm="Cancel this job?" act=${() => remove(job)}>Cancel<//>`}
        ${(job.state === "scheduled" || job.state === "retrying") && html`<${Act} act=${() => revise(job, { delay: 0 })}>Run now<//>`}
        ${["scheduled", "queued", "retrying"].includes(job.state) &&
        html`<label>Priority <select onChange=${(event) => revise(job, { priority: Number(event.target.value) })}>
          ${["", ..."9876543210"].map((choice) => html`<option value=${choice}>${choice || "change…"}</option>`)}
        </select></label>`}
        ${over && job.state !== "cancelled" && html`<${Act} kind="danger" confirm="Forget the result of this job?" act=${() => this.forget(job)}>Forget the result<//>`}
      </p>
      ${job.state === "running" && html`<${Progress} job=${job} />`}
      ${job.held !== undefined && html`<p class="banner">Its task is held: ${job.held}</p>`}
      <${Timeline} job=${job} />
      <dl class="facts">
        <dt>Submitted</dt><dd><${Moment} at=${job.submitted} /></dd>
        <dt>Started</dt><dd><${Moment} at=${job.started} /></dd>
        <dt>Ended</dt><dd><${Moment} at=${job.ended} /></dd>
        <dt>Took</dt><dd><${Took} from=${job.started} to=${job.ended} /></dd>
        ${job.position !== undefined && html`<dt>Ahead of it</dt><dd>${count(job.position)} jobs</dd>`}
        ${job.tags?.length > 0 &&
        html`<dt>Tags</dt><dd>${job.tags.map((tag) => html`<a class="tag" href=${`#${api.path(["jobs"], { tag })}`}>${tag}</a> `)}</dd>`}
      </dl>
      <${Attempts} attempts=${job.attempts ?? []} />
      <${Log} id=${job.id} />
      ${job.state === "succeeded" && html`<${Content} title="Result" url=${api.path(["jobs", job.id, "result"])} key=${`result ${job.id} ${this.state.forgotten}`} />`}
      <${Content} title="Payload" url=${api.path(["jobs", job.id, "payload"])} key=${`payload ${job.id}`} />
      ${job.state === "failed" && !job.attempts?.length && html`<p class="fault">${job.detail}</p>`}
    `;
  }
}

const curlOf = (job) => `curl -I '${location.origin}${api.base}${api.path(["jobs", job.id])}'`;

async function retry(job) {
  const made = await (await api.send("POST", api.path(["jobs", job.id, "retry"]))).json();
  location.hash = `#/job/${made.id}`;
}

async function remove(job) {
  await api.send("DELETE", api.path(["jobs", job.id]), { allow: [410] });
}

async function revise(job, terms) {
  await api.sendJson("PATCH", api.path(["jobs", job.id]), terms);
}

const Progress = ({ job }) => html`<p>
  <progress max="100" value=${job.progress} aria-label="Progress"></progress> ${job.progress === undefined ? "" : `${job.progress} %`} ${job.message ?? ""}
</p>`;

// The road of the job through the state machine, and when it came where.
const Timeline = ({ job }) =>
  html`<div class="life">
    <${Machine} job=${job} />
    <ol class="timeline" aria-label="Its life">
      ${steps(job).map(([state, at]) => html`<li class=${state}><b>${state}</b> <${Moment} at=${at} /></li>`)}
    </ol>
  </div>`;

const Attempts = ({ attempts }) =>
  attempts.length > 0 &&
  html`<section>
    <h2>Attempts</h2>
    ${attempts.map(
      (attempt) => html`<details open=${attempt === attempts.at(-1) && !!attempt.error}>
        <summary>
          ${attempt.attempt}. ${attempt.outcome}${attempt.reason ? ` (${attempt.reason})` : ""}${attempt.place ? ` in ${attempt.place}` : ""}${" "}
          <span class="quiet"><${Took} from=${attempt.started} to=${attempt.ended} /></span>
          ${attempt.error && html` <b>${attempt.error.type}</b> ${attempt.error.message}`}
        </summary>
        ${attempt.error?.traceback && html`<pre tabindex="0">${attempt.error.traceback}</pre>`}
      </details>`,
    )}
  </section>`;

// The log grows: each beat asks for what came since.
class Log extends Live {
  async load(signal) {
    const had = this.state.data ?? { text: "", length: 0 };
    if (had.isWhole) return had;
    const headers = had.length ? { Range: `bytes=${had.length}-` } : { Range: `bytes=-${SHOWN_BYTES}` };
    const response = await api.send("GET", api.path(["jobs", this.props.id, "log"]), { signal, headers, allow: [404, 410, 416, 424] });
    const text = await response.text();
    const isWhole = isOver(response.headers.get("Job-State") ?? "expired");
    if (response.status !== 206 && response.status !== 200) return { ...had, isWhole };
    const length = Number(response.headers.get("Log-Length") ?? had.length);
    const begin = /^bytes (\d+)-/.exec(response.headers.get("Content-Range") ?? "")?.[1];
    const goesOn = had.length && Number(begin) === had.length;
    return { text: (goesOn ? had.text + text : text).slice(-SHOWN_BYTES), length, isWhole };
  }

  show({ text, length }) {
    if (!length) return null;
    return html`<section>
      <h2>Log <span class="quiet">${bytes(length)}</span></h2>
      <pre class="log" tabindex="0" aria-live="polite">${text}</pre>
    </section>`;
  }
}

// A payload or a result. It is shown as text, or as an image of a kind that has no script in it.
const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

class Content extends Component {
  state = { text: undefined };

  componentDidMount() {
    this.look();
  }

  componentWillUnmount() {
    if (this.state.image) URL.revokeObjectURL(this.state.image);
  }

  async look() {
    try {
      const head = await api.send("HEAD", this.props.url, { headers: { Accept: "*/*" }, allow: NOT_HERE });
      const type = (head.headers.get("Content-Type") ?? "").split(";")[0];
      const size = Number(head.headers.get("Content-Length") ?? 0);
      if (![200, 424].includes(head.status)) this.setState({ gone: true });
      else if (size > SHOWN_BYTES && !IMAGES.includes(type)) this.setState({ type, size, large: true });
      else await this.read(type, size);
    } catch (fault) {
      this.setState({ fault: fault.message });
    }
  }

  async read(type, size) {
    const response = await api.send("GET", this.props.url, { headers: { Accept: "*/*" }, allow: NOT_HERE });
    if (IMAGES.includes(type)) {
      this.setState({ type, size, image: URL.createObjectURL(await response.blob()) });
      return;
    }
    let text = await response.text();
    if (type.endsWith("json")) {
      try {
        text = pretty(text);
      } catch {
        // It is shown as it came.
      }
    }
    this.setState({ type, size, text });
  }

  save = async () => {
    const response = await api.send("GET", this.props.url, { headers: { Accept: "*/*" }, allow: NOT_HERE });
    const link = document.createElement("a");
    // Of no type that a browser runs.
    link.href = URL.createObjectURL(new Blob([await response.blob()], { type: "application/octet-stream" }));
    link.download = this.props.url.split("/").slice(-2).join("-");
    link.click();
    URL.revokeObjectURL(link.href);
  };

  render({ title }, { text, image, large, gone, fault, type, size }) {
    if (gone) return html`<section><h2>${title}</h2><p class="quiet">It is not kept any more.</p></section>`;
    return html`<section>
      <h2>${title} ${type && html`<span class="quiet">${type}, ${bytes(size)}</span>`} ${size > 0 && html`<button type="button" onClick=${this.save}>Save</button>`}</h2>
      ${fault && html`<p class="fault">${fault}</p>`}
      ${large && html`<p class="quiet">It is too large to show. Save it, or use curl.</p>`}
      ${image && html`<img src=${image} alt=${title} />`}
      ${text !== undefined && html`<pre tabindex="0">${text || " "}</pre>`}
    </section>`;
  }
}
