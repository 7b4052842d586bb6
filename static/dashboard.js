// The operators' dashboard: what /_bff/admin/status says, every few seconds, and the two things that are done in a hurry.
//
// The token comes from the address's # (which is emptied at once) or is typed; it is held in memory alone, for other pages of
// this origin could read anything that is stored. Every text is set as text: nothing here makes HTML from strings.

/**
 * @typedef {{ state: "closed" | "half-open" | "open", left: number, why: string, since?: number }} Breaker `since`: seconds since 1970
 * @typedef {object} Counted what all workers counted since they began
 * @property {Record<string, Record<string, number>>} [ends] by outcome and reason
 * @property {number[]} [seconds] how many ended within each of `bounds`; the last is of what took longer
 * @property {number[]} [ages] of the stale copies that were shown
 * @property {Record<string, number>} [cache]
 * @property {Record<string, number>} [statuses]
 * @typedef {Counted & { name: string, owner: string, state: string, private: boolean, breaker?: Breaker }} Fragment
 * @typedef {Counted & { name: string, owner: string, contact: string, loaded: boolean, inflight?: number, limit?: number }} Context
 * @typedef {Counted & { name: string, owner: string, route: string, first_byte?: number[] }} Page
 * @typedef {{ target: string, values: Record<string, string>, until: string, reason: string, by: string }} Override
 * @typedef {{ time: string, who: string, action: string } & Record<string, unknown>} Action
 * @typedef {object} Status
 * @property {{ name: string, scope: "*" | string[] }} bearer
 * @property {{ pids: string[], workers: number, streams: number, lag: number[], shed: Record<string, number> }} process
 * @property {{ seconds: number[], ages: number[], lags: number[] }} bounds all in seconds
 * @property {{ tier: string, reached?: boolean, entries: number, bytes: number }} store
 * @property {{ bus: { connected?: boolean }, webhook: boolean }} events
 * @property {Context[]} contexts
 * @property {Fragment[]} fragments
 * @property {Page[]} pages
 * @property {Override[]} overrides
 * @property {Action[]} actions
 */

const EVERY = 3000; // milliseconds
const WINDOW = 60_000; // what "the last minute" is
const OUTCOMES = ["fresh", "stale", "fallback", "pending", "omitted"];
const FAILURES = new Set(["timeout", "connect", "status", "torn", "too_large", "refused", "breaker", "concurrency", "overload"]);
const KEYS = ["state", "timeout.total", "timeout.first_byte", "cache.fresh", "cache.stale_if_error", "concurrency", "retry.extra", "on_error"];

let token = "";
/** @type {?Status} */
let latest = null;
/** @type {{ at: number, status: Status }[]} of the last minute, and of the same workers: others begin to count anew */
let seen = [];
let recent = false;
let wanted = "";
let timer = 0;

// --- elements --------------------------------------------------------------------------------------------------------

/**
 * @param {string} tag
 * @param {Record<string, any>} [given] properties; `class`, `role` and names with a dash are attributes
 * @param {...(Node | string)} inside
 * @returns {any}
 */
const h = (tag, given = {}, ...inside) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given))
    if (name == "class" || name == "role" || name.includes("-")) made.setAttribute(name, value);
    else Object.assign(made, { [name]: value });
  made.append(...inside);
  return made;
};

/** Give an element other children only where they differ, so that focus and selection stay. */
const fill = (parent, ...inside) => {
  const next = h(parent.localName, {}, ...inside);
  if (next.innerHTML != parent.innerHTML) parent.replaceChildren(...next.childNodes);
};

/** Keep one element per key in a list, in order: made once, then brought up to date. */
const keyed = (parent, items, key, make, update) => {
  const there = new Map([...parent.children].map((each) => [each.dataset.key, each]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const node = there.get(name) ?? make(item);
    node.dataset.key = name;
    there.delete(name);
    if (node != before) parent.insertBefore(node, before);
    else before = before.nextElementSibling;
    update(node, item);
  }
  for (const gone of there.values()) gone.remove();
};

// --- numbers ---------------------------------------------------------------------------------------------------------

const sum = (values) => values.reduce((total, value) => total + value, 0);
const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(part && part / whole < 0.1 ? 1 : 0)} %` : "–");
const count = (value) => new Intl.NumberFormat("en", { notation: value < 10_000 ? "standard" : "compact" }).format(value);
const bytes = (value) => (value < 1 << 20 ? `${Math.round(value / 1024)} KiB` : `${(value / (1 << 20)).toFixed(1)} MiB`);
const time = (seconds) => (seconds == null ? "–" : seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);
const span = (seconds) => {
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([each]) => seconds >= +each) ?? [1, "s"];
  return `${Math.floor(seconds / +size)} ${unit}`;
};

/** `now` less `then`, number by number, however deep; what is no number is as it is now. */
const less = (now, then) => {
  if (typeof now == "number") return now - (typeof then == "number" ? then : 0);
  if (Array.isArray(now)) return now.map((each, index) => less(each, then?.[index]));
  if (now && typeof now == "object") return Object.fromEntries(Object.entries(now).map(([key, value]) => [key, less(value, then?.[key])]));
  return now;
};

/** The value below which this share of what was counted lies, read between two bounds. */
const percentile = (counts, bounds, part) => {
  let left = part * sum(counts ?? []);
  if (!left) return null;
  for (const [index, each] of counts.entries()) {
    const [low, high] = [bounds[index - 1] ?? 0, bounds[index] ?? bounds.at(-1)];
    if (each && left <= each) return low + ((high - low) * left) / each;
    left -= each;
  }
  return bounds.at(-1);
};

/** What was counted of something: in the last minute, or since the process began. */
const counted = (kind, item) => {
  const first = recent ? seen[0]?.status[kind].find((each) => each.name == item.name) : null;
  const parts = ({ ends = {}, seconds = [], ages = [], cache = {}, statuses = {} }) => ({ ends, seconds, ages, cache, statuses });
  return first ? less(parts(item), parts(first)) : parts(item);
};

const outcomes = (ends) => OUTCOMES.map((each) => sum(Object.values(ends[each] ?? {})));
const failures = (ends) =>
  sum(Object.values(ends).flatMap((reasons) => Object.entries(reasons).map(([reason, each]) => (FAILURES.has(reason) ? each : 0))));

// --- asking ----------------------------------------------------------------------------------------------------------

/** @param {string} what @param {string} [method] @param {object} [body] */
const ask = async (what, method = "GET", body) => {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await fetch(`/_bff/admin/${what}`, { method, headers, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit" });
  const said = await answer.json().catch(() => ({}));
  if (answer.status == 401) leave("This token is not known here.");
  if (!answer.ok) throw new Error(said.detail ?? `status ${answer.status}`);
  return said;
};

const poll = async () => {
  clearTimeout(timer);
  if (!token) return;
  try {
    if (!document.hidden) take(await ask("status"));
  } catch (/** @type {any} */ error) {
    if (token) trouble.textContent = `No news since ${stamp(new Date())}: ${error.message}`;
  }
  if (token) timer = setTimeout(poll, EVERY);
};

/** @param {Status} status */
const take = (status) => {
  latest = status;
  trouble.textContent = "";
  const now = performance.now();
  const workers = ({ process }) => [...process.pids].sort().join();
  seen = [...seen.filter((each) => workers(each.status) == workers(status)), { at: now, status }];
  while (seen.length > 2 && seen[1].at < now - WINDOW) seen.shift();
  show();
};

const leave = (why) => {
  token = "";
  latest = null;
  seen = [];
  board.hidden = true;
  entrance.hidden = false;
  refusal.textContent = why;
  secret.focus();
};

const enter = (text) => {
  token = text.trim();
  entrance.hidden = true;
  board.hidden = false;
  refusal.textContent = "";
  poll();
};

// --- the parts of the page -------------------------------------------------------------------------------------------

const stamp = (date) => date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const pill = (text, tone, title = "") => h("span", { class: `pill ${tone}`, title }, text);
const refusal = h("p", { class: "refusal", role: "alert" });
const secret = h("input", { type: "password", id: "token", autocomplete: "off", required: true, "aria-describedby": "kept" });
const entrance = h(
  "form",
  { class: "entrance", onsubmit: (event) => (event.preventDefault(), enter(secret.value), (secret.value = "")) },
  h("h1", {}, "Gateway"),
  h("label", { htmlFor: "token" }, "Token of its admin API"),
  secret,
  h("button", { class: "main" }, "Look"),
  refusal,
  h("p", { id: "kept", class: "quiet" }, "Kept by this page alone, until it is closed or loaded again. A link may bring it behind its #."),
);
const trouble = h("p", { class: "trouble", role: "status" });
const who = h("p", { class: "quiet" });
const filter = h("input", { type: "search", placeholder: "Find a fragment, owner or state", "aria-label": "Find", oninput: () => ((wanted = filter.value.toLowerCase()), show()) });
const lately = h("button", { "aria-pressed": "false", onclick: () => choose(true) }, "Last minute");
const always = h("button", { "aria-pressed": "true", onclick: () => choose(false) }, "Since start");
const choose = (last) => {
  recent = last;
  lately.setAttribute("aria-pressed", `${last}`);
  always.setAttribute("aria-pressed", `${!last}`);
  show();
};
const tiles = h("dl", { class: "tiles" });
const contexts = h("div", { class: "contexts" });
const pages = h("tbody");
const overrides = h("ul");
const actions = h("ul");
const said = h("p", { class: "said", role: "status" });
const tip = (text) => h("p", { class: "quiet" }, text);
const board = h(
  "main",
  { hidden: true },
  h("header", {}, h("div", {}, h("h1", {}, "Gateway"), who), h("div", { class: "tools" }, filter, h("div", { class: "pair", role: "group", "aria-label": "Counted" }, always, lately))),
  trouble,
  said,
  tiles,
  contexts,
  h(
    "section",
    { class: "card" },
    h("h2", {}, "Pages"),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ...["Page", "Answers", "Errors", "Half within", "95 % within"].map((each) => h("th", { scope: "col" }, each)))), pages)),
  ),
  h(
    "div",
    { class: "two" },
    h("section", { class: "card" }, h("h2", {}, "Overrides"), overrides),
    h("section", { class: "card" }, h("h2", {}, "What was done"), actions),
  ),
);

const tile = (name, value, note, tone = "") => h("div", { class: tone }, h("dt", {}, name), h("dd", {}, value), h("dd", { class: "quiet" }, note));

/** @param {Status["process"]} process */
const workers = ({ pids, workers }) => (pids.length < workers ? `${pids.length} of ${workers} workers answer` : workers > 1 ? `${workers} workers` : "1 worker");

/** Which of a context's fragments are not asked, and how long the first of them has not been. @param {Context} context */
const shut = ({ name }) => {
  const found = latest?.fragments.filter((each) => each.name.startsWith(`${name}/`) && each.breaker && each.breaker.state != "closed") ?? [];
  const since = Math.min(...found.map(({ breaker }) => breaker?.since ?? Infinity));
  return { number: found.length, since: isFinite(since) ? `, for ${span(ago(since))}` : "" };
};

const ago = (since) => Math.max(0, Date.now() / 1000 - since);

/** @param {Context} context */
const inTrouble = (context) =>
  !context.loaded ||
  shut(context).number > 0 ||
  !!latest?.fragments.some((each) => {
    const { ends } = counted("fragments", each);
    return each.name.startsWith(`${context.name}/`) && failures(ends) > 0.05 * sum(outcomes(ends));
  });

const show = () => {
  if (!latest) return;
  const { process, store, events, bearer } = latest;
  const scope = bearer.scope == "*" ? "all contexts" : bearer.scope.join(", ");
  who.textContent = `${location.host} · ${bearer.name}, for ${scope} · ${workers(process)} · ${stamp(new Date())}`;
  const all = latest.fragments.map((each) => counted("fragments", each));
  const ends = all.map(({ ends }) => outcomes(ends));
  const slots = sum(ends.flat());
  const failed = sum(all.map(({ ends }) => failures(ends)));
  const hits = sum(all.map(({ cache }) => (cache.hit ?? 0) + (cache.stale ?? 0) + (cache.revalidated ?? 0)));
  const looked = sum(all.flatMap(({ cache }) => Object.values(cache)));
  const troubled = latest.contexts.filter(inTrouble);
  const calls = troubled.filter((each) => !each.loaded || shut(each).number);
  const call = (each) => [each.name, each.loaded ? "" : " is broken", shut(each).number ? ` (${shut(each).number} not asked${shut(each).since})` : ""].join("");
  const then = recent ? seen[0].status.process : null;
  const lags = then ? less(process.lag, then.lag) : process.lag;
  const late = percentile(lags, latest.bounds.lags, 0.95);
  const sheds = Object.entries(then ? less(process.shed, then.shed) : process.shed).filter(([, each]) => each);
  const bus = events.bus.connected;
  fill(
    tiles,
    tile("Needs somebody", `${calls.length}`, calls.map(call).join(", ") || "all is well", calls.length ? "bad" : ""),
    tile("Slots", count(slots), `${count(process.streams)} under way`),
    tile("Failed", share(failed, slots), `${count(failed)} of them`, slots && failed / slots > 0.05 ? "bad" : ""),
    tile("From the store", share(hits, looked), `${count(store.entries)} entries, ${bytes(store.bytes)}`),
    tile("Store", store.tier, store.reached == false ? "cannot be reached" : store.tier == "memory" ? "ends with the process" : "reached", store.reached == false ? "bad" : ""),
    tile("Events", bus == null ? (events.webhook ? "webhook" : "none") : bus ? "connected" : "away", bus != null && events.webhook ? "and the webhook" : "", bus == false ? "bad" : ""),
    tile("Loop lag", time(late), "95 % are below", (late ?? 0) > 0.05 ? "bad" : ""),
    tile("Shed", count(sum(sheds.map(([, each]) => each))), sheds.map(([limit, each]) => `${limit} ${each}`).join(", ") || "nothing", sheds.length ? "bad" : ""),
  );
  const matching = (each) => !wanted || `${each.name} ${each.owner} ${each.state} ${each.breaker?.state ?? ""}`.toLowerCase().includes(wanted);
  const shown = latest.contexts.filter((each) => latest?.fragments.some((one) => one.name.startsWith(`${each.name}/`) && matching(one)) || (!each.loaded && matching(each)));
  const order = [...shown.filter((each) => troubled.includes(each)), ...shown.filter((each) => !troubled.includes(each))];
  keyed(contexts, order, ({ name }) => name, contextCard, (card, each) => contextNews(card, each, matching));
  const rows = latest.pages.filter((each) => (!wanted || `${each.name} ${each.owner} ${each.route}`.toLowerCase().includes(wanted)));
  keyed(pages, rows, ({ name }) => name, () => h("tr"), pageNews);
  keyed(overrides, latest.overrides, (each) => `${each.target} ${each.until}`, overrideLine, () => {});
  if (!latest.overrides.length) fill(overrides, h("li", { class: "quiet" }, "Nothing is overridden."));
  fill(actions, ...(latest.actions.length ? latest.actions.slice(0, 12).map(actionLine) : [h("li", { class: "quiet" }, "Nothing since the workers began.")]));
};

// --- contexts and fragments ------------------------------------------------------------------------------------------

const contextCard = ({ name }) => {
  const body = h("tbody");
  const head = ["Fragment", "State", "Outcomes", "Failed", "Half within", "95 % within", "From store", ""];
  return h(
    "section",
    { class: "card", "aria-labelledby": `context-${name}` },
    h("header", {}, h("div", {}, h("h2", { id: `context-${name}` }, name), h("p", { class: "quiet about" })), h("div", { class: "does" }, ...buttons(name, "context"))),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ...head.map((each) => h("th", { scope: "col" }, each)))), body)),
  );
};

/** @param {Context} context */
const contextNews = (card, context, matching) => {
  const { statuses } = counted("contexts", context);
  const answers = Object.entries(statuses).filter(([, each]) => each).sort(([, a], [, b]) => b - a).slice(0, 6);
  const about = [context.owner, context.contact, ...answers.map(([status, each]) => `${status} × ${count(each)}`), context.inflight || context.limit ? `${context.inflight ?? 0} under way${context.limit ? `, ${context.limit} may be` : ""}` : ""];
  fill(card.querySelector(".about"), ...(context.loaded ? [] : [pill("broken registration", "fallback", "the last good version is in use"), " "]), about.filter(Boolean).join(" · "));
  const own = latest?.fragments.filter((each) => each.name.startsWith(`${context.name}/`) && matching(each)) ?? [];
  keyed(card.querySelector("tbody"), own, ({ name }) => name, fragmentRow, fragmentNews);
};

const fragmentRow = ({ name }) => {
  const labels = ["State", "Outcomes", "Failed", "Half within", "95 % within", "From store"];
  const cells = labels.map((each) => h("td", { "data-label": each }));
  return h("tr", {}, h("th", { scope: "row" }, name.split("/")[1]), ...cells, h("td", { class: "does" }, ...buttons(name, "fragment")));
};

/** @param {Fragment} fragment */
const fragmentNews = (row, fragment) => {
  const { ends, seconds, ages, cache } = counted("fragments", fragment);
  const [state, bar, failed, half, most, store] = row.querySelectorAll("td");
  const { breaker } = fragment;
  const held = latest?.overrides.some(({ target }) => target == fragment.name || target == fragment.name.split("/")[0]);
  fill(
    state,
    pill(fragment.state, fragment.state == "on" ? "fresh" : fragment.state == "stored" ? "stale" : "omitted"),
    ...(breaker && breaker.state != "closed" ? [" ", pill(`breaker ${breaker.state}`, "fallback"), h("small", {}, [breaker.since ? `for ${span(ago(breaker.since))}` : "", breaker.why].filter(Boolean).join(": "))] : []),
    ...(held ? [" ", pill("overridden", "pending")] : []),
    ...(fragment.private ? [" ", pill("private", "quiet", "kept for one principal each")] : []),
  );
  const slots = outcomes(ends);
  const total = sum(slots);
  row.classList.toggle("idle", !total);
  const words = OUTCOMES.map((each, index) => `${each} ${slots[index]}`).filter((_, index) => slots[index]);
  const old = percentile(ages, latest?.bounds.ages ?? [], 0.95);
  if (slots[1] && old) words.push(`95 % of the stale younger than ${span(Math.ceil(old))}`);
  fill(bar, total ? stack(slots, total, words.join(", ")) : h("span", { class: "quiet" }, "not asked"), ...(total ? [h("small", {}, words.join(" · "))] : []));
  const wrong = failures(ends);
  const reasons = [...FAILURES].map((reason) => [reason, sum(Object.values(ends).map((each) => each[reason] ?? 0))]);
  const why = reasons.filter(([, each]) => each).map(([reason, each]) => `${reason} ${each}`);
  failed.classList.toggle("bad", total && wrong / total > 0.05);
  fill(failed, share(wrong, total), ...(why.length ? [h("small", {}, why.join(", "))] : []));
  const bounds = latest?.bounds.seconds ?? [];
  half.textContent = time(percentile(seconds, bounds, 0.5));
  most.textContent = time(percentile(seconds, bounds, 0.95));
  const looked = sum(Object.values(cache));
  store.textContent = share(looked - (cache.miss ?? 0) - (cache.bypass ?? 0), looked);
};

/** The shares of outcomes as one bar. Widths are an attribute of SVG: no style is written. */
const stack = (slots, total, title) => {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", "0 0 100 8");
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", title);
  let at = 0;
  for (const [index, each] of slots.entries()) {
    if (!each) continue;
    const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const width = (100 * each) / total;
    const said = { x: at, y: 0, width, height: 8, class: OUTCOMES[index] };
    for (const [name, value] of Object.entries(said)) part.setAttribute(name, `${value}`);
    picture.append(part);
    at += width;
  }
  return picture;
};

/** @param {Page} page */
const pageNews = (row, page) => {
  const { statuses, seconds } = counted("pages", page);
  const total = sum(Object.values(statuses));
  const errors = Object.entries(statuses).filter(([status, each]) => each && +status >= 500);
  const wrong = sum(errors.map(([, each]) => each));
  const bounds = latest?.bounds.seconds ?? [];
  const which = h("span", { class: total && wrong / total > 0.01 ? "bad" : "" }, share(wrong, total), ...(wrong ? [h("small", {}, errors.map(([status, each]) => `${status} × ${each}`).join(", "))] : []));
  const cells = [count(total), which, time(percentile(seconds, bounds, 0.5)), time(percentile(seconds, bounds, 0.95))];
  const labels = ["Answers", "Errors", "Half within", "95 % within"];
  fill(row, h("th", { scope: "row" }, page.name, h("small", {}, `${page.route} · ${page.owner}`)), ...cells.map((cell, index) => h("td", { "data-label": labels[index] }, cell)));
};

// --- what is done ----------------------------------------------------------------------------------------------------

const buttons = (name, kind) => [
  h("button", { "aria-label": `Purge ${name}`, onclick: () => purge(name, kind) }, "Purge"),
  h("button", { "aria-label": `Override ${name}`, onclick: () => override(name) }, "Override"),
];

/** Ask before anything is done: a dialog with these fields; `act` tells what came of it. */
const confirm = (title, words, fields, button, act) => {
  const wrong = h("p", { class: "refusal", role: "alert" });
  const done = h("button", { class: "main" }, button);
  const submit = async (event) => {
    event.preventDefault();
    done.disabled = true;
    try {
      said.textContent = await act(Object.fromEntries(new FormData(form)));
      dialog.close();
      await poll();
    } catch (/** @type {any} */ error) {
      wrong.textContent = error.message;
    }
    done.disabled = false;
  };
  const form = h("form", { onsubmit: submit }, h("h2", {}, title), tip(words), ...fields, wrong, h("div", { class: "ends" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), done));
  const dialog = h("dialog", { onclose: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();
};

const elsewhere = ({ everywhere = true }) => (everywhere ? "" : " The store does not take it now: this holds in one process, and in the others once it does.");
const field = (label, input, note = "") => h("label", {}, h("span", {}, label), input, ...(note ? [h("small", {}, note)] : []));
const radio = (name, value, label, note, checked = false) => h("label", { class: "choice" }, h("input", { type: "radio", name, value, checked }), h("span", {}, label, h("small", {}, note)));

const purge = (name, kind) =>
  confirm(
    `Purge ${name}?`,
    `Every copy of this ${kind}, on all workers and machines that share the store.`,
    [
      radio("soft", "yes", "Mark stale and fetch again", "Copies are shown if it fails. The careful way.", true),
      radio("soft", "", "Forget", "They are gone at once: what is wrong is never shown again, and there is nothing to fall back on."),
    ],
    "Purge",
    async ({ soft }) => {
      const done = await ask("purge", "POST", { [kind]: name, soft: soft == "yes" });
      return `${name}: ${done.entries} ${done.entries == 1 ? "entry" : "entries"} ${soft ? "marked stale" : "forgotten"}.${elsewhere(done)}`;
    },
  );

const override = (name) =>
  confirm(
    `Override ${name}`,
    "Holds on all workers and machines until it ends by itself, within the ceilings, and is on record.",
    [
      field("Key", h("input", { name: "key", value: "state", required: true, spellcheck: false, autocomplete: "off" }), `Such as ${KEYS.join(", ")}.`),
      field("Value", h("input", { name: "value", value: "stored", required: true, spellcheck: false, autocomplete: "off" }), "state: on, stored (show copies, ask nobody) or off (straight to the fallback)."),
      field("For", h("input", { name: "lasting", value: "1h", required: true, pattern: "[0-9.]+(ms|s|m|h|d)" }), "30m, 2h, 7d; at most 30d."),
      field("Why", h("input", { name: "reason", required: true, maxLength: 200 }), "For whoever finds it."),
    ],
    "Override",
    async ({ key, value, lasting, reason }) => {
      const made = await ask("overrides", "POST", { target: name, set: { [key]: value }, for: lasting, reason });
      return `${name}: ${key}=${value} until ${made.until}.${elsewhere(made)}`;
    },
  );

/** @param {Override} each */
const overrideLine = (each) => {
  const values = Object.entries(each.values).map(([key, value]) => `${key}=${value}`).join(" ");
  const end = () =>
    confirm(`End what is overridden of ${each.target}?`, "Its registered policy holds again at once.", [], "End it", async () => {
      const done = await ask(`overrides?target=${encodeURIComponent(each.target)}`, "DELETE");
      return `${each.target}: ${done.ended} ended.${elsewhere(done)}`;
    });
  const until = new Date(each.until);
  const left = h("time", { dateTime: each.until, title: until.toLocaleString() }, `ends ${stamp(until)}, in ${span(Math.max(0, (+until - Date.now()) / 1000))}`);
  return h("li", {}, h("div", {}, h("b", {}, each.target), " ", h("code", {}, values), h("small", {}, left, ` · ${each.by}: ${each.reason}`)), h("button", { "aria-label": `End ${each.target}`, onclick: end }, "End"));
};

/** @param {Action} entry */
const actionLine = ({ time: when, who: name, action, ...rest }) => {
  const words = Object.entries(rest).map(([key, value]) => `${key} ${typeof value == "object" ? JSON.stringify(value) : value}`);
  return h("li", {}, h("div", {}, h("b", {}, action), ` ${name}`, h("small", {}, h("time", { dateTime: when }, stamp(new Date(when))), ` · ${words.join(" · ")}`)));
};

// --- begin -----------------------------------------------------------------------------------------------------------

/** Take the token out of the address, where one is. */
const given = () => {
  const text = decodeURIComponent(location.hash.slice(1)).replace(/^token=/, "");
  if (location.hash) history.replaceState(null, "", location.pathname);
  return text;
};

document.body.append(entrance, board);
addEventListener("hashchange", () => {
  const text = given();
  if (text) enter(text);
});
document.addEventListener("visibilitychange", poll);
const brought = given();
if (brought) enter(brought);
else secret.focus();
