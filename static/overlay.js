// What `bff dev` lays over a page: who owns each slot, how it ended, why, and where the time went. Never served in production.
//
// Reads `#bff-overlay`, the JSON that the gateway wrote before </body>, and the wrappers' `data-slot`. Works under the
// page's strict Content-Security-Policy: a constructed style sheet, no HTML from strings, styles set by the CSSOM alone.

/**
 * @typedef {{ queued: number, connected: number, first_byte: number, total: number }} Timing milliseconds since asked
 * @typedef {object} Slot
 * @property {string} slot "s2"
 * @property {string} as
 * @property {string} fragment
 * @property {string} owner
 * @property {string} outcome
 * @property {string} reason
 * @property {?number} [age] seconds
 * @property {number} ms
 * @property {number} [started] milliseconds after the page began
 * @property {?number} [status]
 * @property {string} [detail]
 * @property {Record<string, unknown>} [params]
 * @property {?Timing} [timing]
 * @typedef {{ page: string, ms: number, slots: Slot[] }} Report
 */

const STYLE = `
:host { all: initial; color-scheme: light dark; font: 13px/1.45 system-ui, sans-serif;
  --paper: light-dark(#fff, #17191e); --ink: light-dark(#1c2027, #e7e9ee); --quiet: light-dark(#5b6270, #a2a9b8);
  --line: light-dark(#d9dce3, #343842); --focus: light-dark(#0b57d0, #8ab4f8);
  --fresh: light-dark(#18794e, #4cc38a); --stale: light-dark(#946000, #f1a10d); --fallback: light-dark(#b4450e, #ff8b3e);
  --pending: light-dark(#0b57d0, #70b8ff); --omitted: light-dark(#6b7280, #9ba1a6); }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.fresh { --tone: var(--fresh); } .stale { --tone: var(--stale); } .fallback { --tone: var(--fallback); }
.pending, .loading { --tone: var(--pending); } .omitted { --tone: var(--omitted); }
button { font: inherit; color: inherit; background: none; border: 0; padding: 0; text-align: start; cursor: pointer; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.corner { position: fixed; inset: auto 12px 12px auto; z-index: 2147483647; display: flex; gap: 8px; align-items: center;
  padding: 7px 12px; border: 1px solid var(--line); border-radius: 99px; background: var(--paper); color: var(--ink);
  box-shadow: 0 2px 10px #0003; font-variant-numeric: tabular-nums; }
.corner b { font-weight: 650; }
@media (max-width: 640px) { .corner .words { display: none; } }
.dot { inline-size: 8px; block-size: 8px; border-radius: 50%; background: var(--tone); }
.box { position: fixed; z-index: 2147483645; pointer-events: none; outline: 2px dashed var(--tone); outline-offset: -2px; border-radius: 4px; }
.box.lit { outline-style: solid; outline-width: 3px; background: color-mix(in srgb, var(--tone) 12%, transparent); }
.tag { position: absolute; inset: 0 auto auto 0; max-inline-size: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  padding: 1px 7px; border-radius: 4px 0 4px 0; background: var(--tone); color: light-dark(#fff, #111); font-size: 11px; font-weight: 600; }
.panel { position: fixed; inset: auto 0 0 0; z-index: 2147483646; max-block-size: 46vh; overflow: auto; overscroll-behavior: contain;
  padding: 12px 16px 56px; border-block-start: 1px solid var(--line); background: var(--paper); color: var(--ink); box-shadow: 0 -4px 24px #0002; }
h2 { margin: 0 0 8px; font-size: 14px; font-weight: 650; } h2 small { font-weight: 400; color: var(--quiet); }
table { inline-size: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px 4px 0; text-align: start; vertical-align: top; border-block-start: 1px solid var(--line); font-weight: 400; }
thead th { border: 0; color: var(--quiet); font-size: 12px; }
tr.lit { background: color-mix(in srgb, var(--tone) 10%, transparent); }
th button { font-weight: 600; } small { display: block; color: var(--quiet); font-size: 12px; overflow-wrap: anywhere; } h2 small { display: inline; }
td:nth-child(n + 4) { white-space: nowrap; }
.pill { display: inline-block; padding: 0 7px; border-radius: 99px; border: 1px solid var(--tone); color: var(--tone); font-weight: 600; }
.time { inline-size: 38%; } .track { position: relative; block-size: 12px; margin-block: 4px 2px; border-radius: 3px; background: color-mix(in srgb, var(--line) 45%, transparent); }
.bar { position: absolute; inset-block: 0; border-radius: 2px; background: var(--tone); min-inline-size: 2px; }
.bar.queued { opacity: .25; } .bar.connected { opacity: .45; } .bar.first_byte { opacity: .7; }
ul { margin: 4px 0 0; padding: 0; list-style: none; } li { padding: 4px 0; border-block-start: 1px solid var(--line); overflow-wrap: anywhere; }
h2.csp { margin-block-start: 16px; color: var(--fallback); }
@media (max-width: 640px) { .time, .owner { display: none; } }
@media print { :host { display: none; } }
`;

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
const element = (tag, attributes, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

/** @param {number} ms */
const time = (ms) => (ms < 10 ? `${ms.toFixed(1)} ms` : ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** @param {number} seconds */
const age = (seconds) => (seconds < 120 ? `${Math.round(seconds)} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`);

/** @param {Slot} slot what is said of it in one line */
const summary = (slot) =>
  [
    `${slot.outcome} (${slot.reason}${slot.status ? ` ${slot.status}` : ""})`,
    slot.age == null ? "" : `${age(slot.age)} old`,
    time(slot.ms),
  ].filter(Boolean).join(" · ");

/** Names of a timing's phases, in order: each ends where its number says. */
const PHASES = /** @type {const} */ (["queued", "connected", "first_byte", "total"]);

/** @param {Slot} slot @param {number} scale milliseconds of the full width */
const track = (slot, scale) => {
  const started = slot.started ?? 0;
  /** @param {string} phase @param {number} from @param {number} to */
  const bar = (phase, from, to) => {
    const made = element("div", { class: `bar ${phase}`, title: `${phase.replace("_", " ")}: ${time(to - from)}` });
    made.style.insetInlineStart = `${(100 * (started + from)) / scale}%`;
    made.style.inlineSize = `${(100 * (to - from)) / scale}%`;
    return made;
  };
  const bars = [];
  let at = 0;
  for (const phase of slot.timing ? PHASES : []) {
    const end = Math.min(slot.timing?.[phase] ?? 0, scale - started);
    if (end > at) bars.push(bar(phase, at, end));
    at = Math.max(at, end);
  }
  if (!bars.length && slot.ms > 0) bars.push(bar("total", 0, Math.min(slot.ms, scale - started)));
  const phases = PHASES.map((phase) => `${phase.replace("_", " ")} ${time(slot.timing?.[phase] ?? 0)}`).join(", ");
  return element("div", { class: "track", role: "img", "aria-label": slot.timing ? phases : time(slot.ms) }, ...bars);
};

/** The outlines over the page, one for each slot that has a wrapper to be seen. */
class Outlines {
  /** @param {ShadowRoot} root @param {Slot[]} slots */
  constructor(root, slots) {
    /** @type {Map<string, { slot: Slot, box: HTMLElement, tag: HTMLElement }>} */
    this.boxes = new Map();
    for (const slot of slots) {
      const tag = element("span", { class: "tag" });
      const box = element("div", { class: "box", hidden: "", "aria-hidden": "true" }, tag);
      this.boxes.set(slot.slot, { slot, box, tag });
      root.append(box);
    }
    this.shown = false;
  }

  /** @param {boolean} shown */
  show(shown) {
    const before = this.shown;
    this.shown = shown;
    if (shown && !before) this.follow();
    if (!shown) for (const { box } of this.boxes.values()) box.hidden = true;
  }

  /** Keep to the wrappers, frame by frame, while shown: pages move for many reasons. */
  follow() {
    if (!this.shown) return;
    for (const [id, { slot, box, tag }] of this.boxes) {
      const wrapper = document.querySelector(`bff-fragment[data-slot="${CSS.escape(id)}"]`);
      const rect = wrapper && place(wrapper);
      box.hidden = !rect || rect.width === 0 || rect.height === 0;
      if (!rect || !wrapper) continue;
      const state = wrapper.getAttribute("state") ?? slot.outcome;
      box.classList.remove("fresh", "stale", "fallback", "pending", "loading", "omitted");
      box.classList.add(state);
      const text = `${slot.owner} · ${slot.fragment} · ${state === slot.outcome ? summary(slot) : `${slot.outcome}, then ${state}`}`;
      if (tag.textContent !== text) tag.textContent = text;
      Object.assign(box.style, { left: `${rect.left}px`, top: `${rect.top}px`, width: `${rect.width}px`, height: `${rect.height}px` });
    }
    requestAnimationFrame(() => this.follow());
  }

  /** @param {string} id @param {boolean} lit */
  light(id, lit) {
    this.boxes.get(id)?.box.classList.toggle("lit", lit);
  }
}

/** @param {Element} wrapper where it is: an inline wrapper's own box may be empty although its content is not */
const place = (wrapper) => {
  const rect = wrapper.getBoundingClientRect();
  if (rect.height > 0 && rect.width > 0) return rect;
  const range = document.createRange();
  range.selectNodeContents(wrapper);
  return range.getBoundingClientRect();
};

/** @param {Report} report @param {Outlines} outlines */
const table = (report, outlines) => {
  const scale = Math.max(report.ms, ...report.slots.map((slot) => (slot.started ?? 0) + slot.ms), 1);
  const heads = { Slot: "", Owner: "owner", Ended: "", Age: "", Time: "", Waterfall: "time" };
  const head = Object.entries(heads).map(([name, kind]) => element("th", { scope: "col", class: kind }, name));
  const body = element("tbody", {});
  for (const slot of report.slots) {
    const go = element("button", { type: "button", "data-slot": slot.slot }, slot.as);
    const params = Object.entries(slot.params ?? {}).map(([name, value]) => `${name}=${value}`).join(" ");
    const row = element(
      "tr",
      { class: slot.outcome },
      element("th", { scope: "row" }, go, element("small", {}, `${slot.slot} ${slot.fragment} ${params}`)),
      element("td", { class: "owner" }, slot.owner),
      element(
        "td",
        {},
        element("span", { class: "pill" }, slot.outcome),
        ` ${slot.reason}${slot.status ? ` ${slot.status}` : ""}`,
        ...(slot.detail ? [element("small", {}, slot.detail)] : []),
      ),
      element("td", {}, slot.age == null ? "–" : age(slot.age)),
      element("td", {}, time(slot.ms)),
      element("td", { class: "time" }, track(slot, scale)),
    );
    /** @param {boolean} lit */
    const light = (lit) => {
      row.classList.toggle("lit", lit);
      outlines.light(slot.slot, lit);
    };
    row.addEventListener("pointerenter", () => light(true));
    row.addEventListener("pointerleave", () => light(go.matches(":focus-visible")));
    go.addEventListener("focus", () => light(true));
    go.addEventListener("blur", () => light(false));
    go.addEventListener("click", () =>
      document.querySelector(`bff-fragment[data-slot="${CSS.escape(slot.slot)}"]`)?.scrollIntoView({ block: "center" }),
    );
    body.append(row);
  }
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), body);
};

/** Violations of the page's policy, those before this module ran too, each once. @param {(text: string) => void} tell */
const violations = (tell) => {
  const known = new Set();
  /** @param {{ effectiveDirective?: string, blockedURI?: string, blockedURL?: string, sourceFile?: ?string, lineNumber?: ?number }} found */
  const see = (found) => {
    const blocked = found.blockedURI ?? found.blockedURL;
    const text = `${found.effectiveDirective} blocked ${blocked || "something"}${found.sourceFile ? ` (${found.sourceFile}:${found.lineNumber})` : ""}`;
    if (!known.has(text)) tell(text);
    known.add(text);
  };
  document.addEventListener("securitypolicyviolation", see);
  const Observer = /** @type {any} */ (window).ReportingObserver;
  if (Observer)
    new Observer((/** @type {{ body: object }[]} */ reports) => reports.forEach((report) => see(report.body)), {
      types: ["csp-violation"],
      buffered: true,
    }).observe();
};

/**
 * Hold the corner above what the page itself keeps at the bottom of the window, a bar of its own.
 * Looking for it lays the page out: what is in the document by then and moved after counts as a shift.
 * @param {Element} own @param {HTMLElement} corner @param {HTMLElement} panel
 */
const clear = (own, corner, panel) => {
  /** @type {?Element} */
  let bar = null;
  const bars = new ResizeObserver(() => settle());
  const settle = () => {
    const found = panel.hidden ? bottom(own) : null;
    if (found !== bar) {
      if (bar) bars.unobserve(bar);
      if (found) bars.observe(found);
      bar = found;
    }
    corner.style.insetBlockEnd = bar ? `${Math.round(innerHeight - bar.getBoundingClientRect().top) + 12}px` : "";
  };
  bars.observe(document.documentElement);
  addEventListener("resize", settle);
  settle();
  return settle;
};

/** @param {Element} own @returns {?Element} what stays at the bottom right whatever is scrolled, unless it is most of the window */
const bottom = (own) => {
  for (const at of document.elementsFromPoint(innerWidth - 24, innerHeight - 2)) {
    for (let up = /** @type {?Element} */ (at); up && up !== own; up = up.parentElement)
      if (/fixed|sticky/.test(getComputedStyle(up).position) && up.getBoundingClientRect().top > innerHeight / 4) return up;
  }
  return null;
};

/** @param {Report} report */
const start = (report) => {
  const host = element("div", { id: "bff-overlay-host" });
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];
  const outlines = new Outlines(root, report.slots);

  const worst = ["fallback", "stale", "omitted", "pending"].find((outcome) => report.slots.some((slot) => slot.outcome === outcome)) ?? "fresh";
  const counts = Map.groupBy(report.slots, (slot) => slot.outcome);
  const words = [...counts].map(([outcome, slots]) => `${slots.length} ${outcome}`).join(", ");
  const warning = element("span", {});
  const corner = element(
    "button",
    { type: "button", class: `corner ${worst}`, "aria-expanded": "false", "aria-controls": "panel", title: "Slots of this page (bff dev)" },
    element("span", { class: "dot", "aria-hidden": "true" }),
    element("b", {}, "bff"),
    time(report.ms),
    element("span", { class: "words" }, ` · ${words || "no slots"}`),
    warning,
  );
  const list = element("ul", {});
  const heading = element("h2", { class: "csp", hidden: "" }, "Content-Security-Policy");
  const panel = element(
    "section",
    { id: "panel", class: "panel", "aria-label": "Slots of this page", hidden: "" },
    element("h2", {}, report.page, element("small", {}, ` ${time(report.ms)}, ${report.slots.length} slots`)),
    table(report, outlines),
    heading,
    list,
  );
  root.append(corner, panel);
  const settle = clear(host, corner, panel);
  document.body.append(host);

  violations((text) => {
    heading.hidden = false;
    list.append(element("li", {}, text));
    warning.textContent = `· ${list.children.length} CSP`;
  });

  /** @param {boolean} open */
  const toggle = (open) => {
    panel.hidden = !open;
    settle();
    corner.setAttribute("aria-expanded", String(open));
    outlines.show(open);
    try {
      sessionStorage.setItem("bff-overlay", open ? "open" : "");
    } catch {} // storage may be forbidden; then it starts closed next time
  };
  corner.addEventListener("click", () => toggle(panel.hidden === true));
  root.addEventListener("keydown", (event) => {
    if (/** @type {KeyboardEvent} */ (event).key !== "Escape" || panel.hidden) return;
    toggle(false);
    corner.focus();
  });
  let open = "";
  try {
    open = sessionStorage.getItem("bff-overlay") ?? "";
  } catch {} // as above
  toggle(open === "open");
};

const data = document.getElementById("bff-overlay")?.textContent;
if (data) start(JSON.parse(data));
