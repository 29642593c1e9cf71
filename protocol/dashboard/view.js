// Pieces that all screens are made of.

import { Component, Fragment, h, render } from "./preact.js";
import htm from "./htm.js";
import * as pulse from "./pulse.js";
import { count, now, since, span, time } from "./format.js";

export const html = htm.bind(h);
export { Component, Fragment, render };

// A part of a screen that asks the server at each beat. `load(signal)` returns what it then has as `state.data`.
export class Live extends Component {
  ask = (signal) => this.answer(signal);

  componentDidMount() {
    this.end = pulse.at(this.ask);
  }

  componentWillUnmount() {
    this.end();
  }

  componentDidUpdate(before) {
    if (this.asksFor(before) !== this.asksFor(this.props)) {
      this.setState({ data: undefined, fault: undefined });
      this.now();
    }
  }

  // What it depends on: another value, and it asks anew.
  asksFor(props) {
    return JSON.stringify(props);
  }

  // Ask now, and not only at the next beat.
  now = () => pulse.round([this.ask]);

  async answer(signal) {
    const asked = this.asksFor(this.props);
    try {
      const data = await this.load(signal);
      if (asked === this.asksFor(this.props)) this.setState({ data, fault: undefined });
    } catch (fault) {
      if (fault.status) this.setState({ fault });
      throw fault;
    }
  }

  render() {
    const { data, fault } = this.state;
    if (fault && data === undefined) return html`<${Fault} fault=${fault} />`;
    return data === undefined ? html`<p class="quiet" role="status">Loading…</p>` : this.show(data);
  }
}

export const Fault = ({ fault }) =>
  html`<p class="fault" role="alert">${fault.problem?.title ? `${fault.problem.title}: ` : ""}${fault.message}</p>`;

export const State = ({ state }) => html`<span class=${`state ${state}`}>${state}</span>`;

// A moment: local time, and UTC for the pointer.
export const Moment = ({ at }) =>
  at ? html`<time datetime=${at} title=${new Date(at).toUTCString()}>${time(at)}</time>` : html`<span>–</span>`;

export const Ago = ({ at }) =>
  at
    ? html`<time datetime=${at} title=${`${time(at)} (${new Date(at).toUTCString()})`}>${span(since(at))} ago</time>`
    : html`<span>–</span>`;

// How long something took, or has taken so far.
export function Took({ from, to }) {
  if (!from) return html`<span>–</span>`;
  return html`<span>${span(((to ? Date.parse(to) : now()) - Date.parse(from)) / 1000)}</span>`;
}

export const Figure = ({ name, value, hint, tone }) =>
  html`<div class=${`figure ${tone ?? ""}`} title=${hint}><dt>${name}</dt><dd>${value}</dd></div>`;

export const Bar = ({ parts, label }) => {
  const all = parts.reduce((sum, [, value]) => sum + value, 0) || 1;
  return html`<div class="bar" role="img" aria-label=${label}>
    ${parts.map(
      ([name, value]) =>
        value > 0 && html`<span class=${name} style=${{ flexGrow: value / all }} title=${`${name} ${count(value)}`}></span>`,
    )}
  </div>`;
};

// A button that does something at the server, and says how it went.
export class Act extends Component {
  act = async () => {
    if (this.props.confirm && !(await ask(this.props.confirm))) return;
    this.setState({ busy: true, said: undefined });
    try {
      const said = await this.props.act();
      this.setState({ busy: false, said });
    } catch (fault) {
      this.setState({ busy: false, said: fault.message, wrong: true });
    }
    pulse.beat();
  };

  render({ children, kind }, { busy, said, wrong }) {
    return html`<span class="act">
      <button type="button" class=${kind ?? ""} disabled=${busy} onClick=${this.act}>${children}</button>
      ${said && html`<span class=${wrong ? "fault" : "quiet"} role="status">${said}</span>`}
    </span>`;
  }
}

// Ask the person; resolves to whether they agree.
export function ask(question) {
  const dialog = document.getElementById("ask");
  dialog.querySelector("p").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// Browsers have a clipboard for pages of https and of this machine alone.
async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// Copy text, and say so on the button. `text`: a function that returns it, or undefined if there is none.
export class Copy extends Component {
  copy = async (event) => {
    const text = this.props.text(event);
    if (text === undefined) return;
    await copied(text);
    this.setState({ copied: true });
    setTimeout(() => this.setState({ copied: false }), 1500);
  };

  render({ children }, { copied }) {
    return html`<button type="button" onClick=${this.copy}>${copied ? "Copied" : children}</button>`;
  }
}
