// The charts of the admin's front page. What they show stands in tables beside them, too.

const HEIGHT = 180;
const ZONE = document.body.dataset.adminServerTimezone ?? "UTC";
const LANGUAGE = document.documentElement.lang;
const compact = new Intl.NumberFormat(LANGUAGE, { notation: "compact" });
const clock = new Intl.DateTimeFormat(LANGUAGE, { timeZone: ZONE, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(LANGUAGE, { timeZone: ZONE, weekday: "short", day: "numeric" });
const STEPS = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((factor) => factor * 10 ** power)).flat();
const DAYS = 2 * 24 * 60 * 60; // seconds from which on days are told, not hours

const moment = (seconds) => new Date(seconds * 1000);

function colour(place, name) {
  return getComputedStyle(place).getPropertyValue(`--console-${name}`).trim();
}

// Each series stands on those before it: the last, which is the highest, is drawn first and the others over it.
function stacked(series) {
  let below = null;
  const tops = series.map(({ name, numbers }) => {
    below = below ? numbers.map((number, slot) => number + below[slot]) : numbers;
    return { name, numbers, top: below };
  });
  return tops.reverse();
}

function draw(place) {
  const { slots, series } = JSON.parse(document.getElementById(place.dataset.chart).textContent);
  const step = slots[1] - slots[0];
  const end = slots.at(-1) + step;
  const tell = (splits) => splits.map((at) => (end - slots[0] > DAYS ? day : clock).format(moment(at)));
  const drawn = stacked(series.filter(({ numbers }) => numbers.some(Boolean)));
  const axis = {
    stroke: colour(place, "axis"),
    font: "12px sans-serif",
    grid: { stroke: colour(place, "grid"), width: 1 },
    ticks: { stroke: colour(place, "grid"), width: 1 },
  };
  const options = {
    width: place.clientWidth,
    height: HEIGHT,
    tzDate: (seconds) => uPlot.tzDate(moment(seconds), ZONE),
    cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
    scales: { x: { range: () => [slots[0], end] }, y: { range: (_, least, most) => [0, Math.max(most, 1)] } },
    axes: [
      { ...axis, space: 60, values: (_, splits) => tell(splits) },
      { ...axis, size: 52, incrs: STEPS, values: (_, splits) => splits.map((split) => compact.format(split)) },
    ],
    series: [
      { label: "from", value: (_, at) => (at ? `${day.format(moment(at))} ${clock.format(moment(at))}` : "-") },
      ...drawn.map(({ name, numbers }) => ({
        label: name,
        fill: colour(place, name),
        width: 0,
        points: { show: false },
        paths: uPlot.paths.bars({ size: [0.85, 60], align: 1 }),
        value: (_, top, __, slot) => (slot === null ? "-" : numbers[slot].toLocaleString(LANGUAGE)),
      })),
    ],
  };
  return new uPlot(options, [slots, ...drawn.map(({ top }) => top)], place);
}

const charts = new Map();

function drawAll() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    charts.get(place)?.destroy();
    charts.set(place, draw(place));
  }
}

drawAll();
const widths = new ResizeObserver((places) => {
  for (const { target } of places) charts.get(target).setSize({ width: target.clientWidth, height: HEIGHT });
});
for (const place of charts.keys()) widths.observe(place);
// The admin's own switch, and the system's.
new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
