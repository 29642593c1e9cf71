// Charts drawn by hand as SVG: a line or an area over time, and a sparkline.

import { Component, html } from "./view.js";

const WIDTH = 640;
const HEIGHT = 150;

// Return the path of a line through values, which may have gaps (null).
function line(values, most, width, height) {
  const step = width / Math.max(values.length - 1, 1);
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null || value === undefined) pen = "M";
    else {
      path += `${pen}${(index * step).toFixed(1)},${(height - (value / most) * height).toFixed(1)}`;
      // A value with a gap on either side is a point.
      if (pen === "M") path += "h0";
      pen = "L";
    }
  });
  return path;
}

// Return a round number that is no less than `value`.
function ceiling(value) {
  if (value <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * size).find((bound) => bound >= value);
}

// `series`: {name: values}, of which each value belongs to a moment of `times`.
export class Chart extends Component {
  point = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const part = (event.clientX - box.left) / box.width;
    this.setState({ at: Math.round(part * (this.props.times.length - 1)) });
  };

  step = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const last = this.props.times.length - 1;
    this.setState(({ at }) => ({ at: Math.min(Math.max((at ?? last) + by, 0), last) }));
  };

  leave = () => this.setState({ at: undefined });

  render({ title, times, series, text }, { at }) {
    const all = Object.values(series).flat().filter((value) => value !== null && value !== undefined);
    const most = ceiling(Math.max(...all, 0));
    const shown = at === undefined ? times.length - 1 : at;
    return html`<figure class="chart">
      <figcaption>
        <b>${title}</b>
        ${Object.keys(series).map(
          (name, index) =>
            html`<span class=${`series s${index}`}>${name} <b>${text(series[name][shown] ?? undefined)}</b></span>`,
        )}
        <span class="quiet">${at === undefined ? "" : new Date(times[at]).toLocaleTimeString()}</span>
      </figcaption>
      <svg
        viewBox=${`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        tabindex="0"
        aria-label=${`${title}, up to ${text(most)}`}
        onPointerMove=${this.point}
        onPointerLeave=${this.leave}
        onKeyDown=${this.step}
        onBlur=${this.leave}
      >
        ${[0.25, 0.5, 0.75].map(
          (part) => html`<line class="grid" x1="0" x2=${WIDTH} y1=${HEIGHT * part} y2=${HEIGHT * part} />`,
        )}
        ${Object.values(series).map(
          (values, index) => html`<path class=${`s${index}`} d=${line(values, most, WIDTH, HEIGHT)} />`,
        )}
        ${at !== undefined &&
        html`<line class="cursor" x1=${(at / Math.max(times.length - 1, 1)) * WIDTH} x2=${(at / Math.max(times.length - 1, 1)) * WIDTH} y1="0" y2=${HEIGHT} />`}
      </svg>
      <div class="axis quiet">
        <span>${times.length ? new Date(times[0]).toLocaleTimeString() : ""}</span><span>up to ${text(most)}</span><span>now</span>
      </div>
    </figure>`;
  }
}

export const Spark = ({ values, label }) =>
  html`<svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" role="img" aria-label=${label}>
    <path class="s0" d=${line(values, Math.max(...values, 1), 100, 19)} />
  </svg>`;
