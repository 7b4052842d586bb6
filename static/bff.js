// Fills <?start name="x">…<?end> from <template for="x"> where browsers do not; then <bff-fragment>: docs/browser.md

const marker = (node) => // or a comment
  node instanceof Comment ? node.data : node instanceof ProcessingInstruction ? `?${node.target} ${node.data}` : "";

const flush = () => {
  for (const template of document.querySelectorAll("template")) {
    if (!complete && !template.nextSibling) continue; // it may still grow
    const walker = document.createTreeWalker(document, 192);
    while (walker.nextNode()) {
      const start = walker.currentNode;
      if (!marker(start).startsWith(`?start name="${template.getAttribute("for")}"`)) continue;
      for (let depth = 1, next; depth && (next = start.nextSibling); next.remove())
        depth += +marker(next).startsWith("?start") - +marker(next).startsWith("?end");
      start.replaceWith(template.content);
      template.remove();
      break;
    }
  }
};

let complete = document.readyState != "loading";
const observer = new MutationObserver(flush);
if (!("htmlFor" in HTMLTemplateElement.prototype)) observer.observe(document, { childList: true, subtree: true });
flush();
const parsed = new Promise((resolve) => (complete ? resolve(0) : document.addEventListener("DOMContentLoaded", resolve)));
parsed.then(() => {
  complete = true;
  flush();
  observer.disconnect();
  document.querySelectorAll("script,link").forEach(again);
});

const raw = { createHTML: (html) => html };
const policy = window.trustedTypes?.createPolicy("bff", raw) ?? raw;
const touched = new WeakSet();
const ran = new Set();

const again = (node) => ran.size == ran.add(node.src || node.href || node.text).size;

const parse = (html) => {
  const content = new Range().createContextualFragment(policy.createHTML(html));
  for (const node of content.querySelectorAll("script,style,link")) {
    node.nonce = document.querySelector("[nonce]")?.nonce ?? "";
    if (node.localName != "style" && again(node)) node.remove();
    else if (node.href) {
      node.media = "print"; // never blocks
      node.onload = () => (node.media = "all");
      document.head.append(node);
    }
  }
  return content;
};

const swap = (slot, content) => {
  const twin = (old) => {
    const like = old.localName + ["id", "name"].map((name) => (old[name] ? `[${name}="${CSS.escape(old[name])}"]` : "")).join("");
    return content.querySelectorAll(like)[[...slot.querySelectorAll(like)].indexOf(old)];
  };
  for (const old of slot.querySelectorAll("*")) {
    const fresh = touched.has(old) && twin(old);
    if (!fresh) continue;
    touched.add(fresh);
    if (old.files) fresh.files = old.files;
    else [fresh.checked, fresh.value] = [old.checked, old.value];
  }
  const active = document.activeElement;
  const { selectionStart: start, selectionEnd: end } = active;
  const next = slot != active && slot.contains(active) && (twin(active) ?? slot);
  slot.replaceChildren(content);
  if (next == slot) slot.tabIndex = -1;
  if (next) next.focus({ preventScroll: true });
  if (next && end != null) next.setSelectionRange?.(start, end);
};

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const timer = setTimeout(resolve, seconds * (1000 + Math.random() * 250));
    signal.onabort = () => (clearTimeout(timer), reject(signal.reason));
  });

const anchor = (href, text, rel = "") => Object.assign(document.createElement("a"), { href, text, rel });

const after = (answer) => +(answer?.headers.get("retry-after") ?? 0);

const ask = async (url, later, signal) => {
  for (let tries = 1; ; later = after(answer) || 2 ** tries, tries++) {
    await pause(later, signal);
    var answer = await fetch(url, { cache: "no-cache", signal }).catch(() => signal.throwIfAborted());
    if (tries > 4 || (answer && answer.status < 500)) return answer;
  }
};

class Slot extends HTMLElement {
  #call = new AbortController();
  #shown = "";

  get src() {
    return this.getAttribute("src") ?? "/_bff/fragments/" + this.getAttribute("name");
  }

  connectedCallback() {
    const load = this.getAttribute("load");
    if (this.hasAttribute("live")) slots.add(this), connect();
    if (this.matches("[live],[load=click]")) this.ariaLive ??= "polite";
    if (!this.matches("[state=pending],:not([state])")) this.#work();
    else if (this.hasAttribute("task")) this.#work((signal) => this.#follow(this.getAttribute("task"), 0, signal));
    else if (load == "visible") near.observe(this);
    else if (load == "client") this.load();
    else if (!load) parsed.then(() => void (this.isConnected && this.load()));
  }

  disconnectedCallback() {
    if (slots.delete(this)) connect();
    near.unobserve(this);
    this.abort();
  }

  connectedMoveCallback() {}

  load(later = +(this.getAttribute("retry-after") ?? 0)) {
    return this.#work((signal) => this.#load(this.src, later, signal));
  }

  /** @param {Record<string, string> | string[][]} [params] */
  reload(params) {
    if (params) this.setAttribute("src", this.src.split("?")[0] + "?" + new URLSearchParams(params));
    connect();
    return this.load();
  }

  more() {
    const next = this.getAttribute("next");
    if (next && !this.ariaBusy) return this.#work((signal) => this.#load(next, 0, signal, this.querySelector("a[rel=next]")));
  }

  abort() {
    this.#call.abort();
    this.ariaBusy = null;
  }

  async #work(what) {
    this.abort();
    const { signal } = (this.#call = new AbortController());
    if (what) this.ariaBusy = "true";
    await (what?.(signal).catch((error) => signal.aborted || reportError(error)) ?? parsed); // it may still grow
    if (signal.aborted) return;
    this.ariaBusy = null;
    const more = this.getAttribute("more");
    const next = more && this.getAttribute("next");
    const link = this.querySelector("a[rel=next]") ?? anchor(next, this.dataset.more ?? "More", "next");
    if (next) {
      if (!link.isConnected) this.append(link);
      if (more == "visible") near.observe(link);
    } else if (more) link.remove();
    const every = this.matches("[live][state=stale]") ? 5 : parseFloat(this.getAttribute("refresh") ?? "");
    if (every) pause(every, signal).then(visible).then(() => void (signal.aborted || this.load()), () => {});
  }

  async #load(url, later, signal, link) {
    const answer = await ask(url, later, signal);
    const head = (name) => answer?.headers.get(name) ?? "";
    if (answer?.status == 202) return this.#follow(head("location"), after(answer), signal);
    const text = answer?.ok ? await answer.text() : "";
    if (!this.nextSibling && !this.parentNode?.nextSibling) await parsed; // it may still grow
    signal.throwIfAborted();
    const reason = head("bff-reason") || "connect";
    if (!answer?.ok) {
      const gone = /40[134]|410/.test(answer?.status); // for this reader
      if (gone) this.replaceChildren(), (this.#shown = "");
      if (gone || this.matches("[state=fresh]")) this.#is(gone ? "omitted" : "stale");
      return this.#tell("error", reason);
    }
    const json = /json/.test(head("content-type"));
    if (!json && (link || text != this.#shown)) {
      const apart = /^sandbox/.test(head("content-security-policy"));
      const content = parse(apart ? "<iframe sandbox=allow-scripts>" : text);
      if (apart) content.querySelector("iframe").src = url;
      const change = () => signal.aborted || (link ? link.before(content) : swap(this, content));
      const motion = matchMedia("(prefers-reduced-motion: reduce)").matches ? undefined : this.startViewTransition?.(change);
      motion?.ready.catch(() => {});
      await (motion?.updateCallbackDone ?? change());
      signal.throwIfAborted();
    }
    if (!link) this.#shown = text;
    const outcome = head("bff-outcome") || "fresh";
    this.#is(outcome, head("age"), /<([^>]*)>; rel="next"/.exec(head("link"))?.[1]);
    this.#tell(outcome == "stale" ? outcome : "load", reason, json ? JSON.parse(text) : null);
  }

  #is(state, age, next) {
    this.hidden = state == "omitted";
    for (const [name, value] of Object.entries({ state, age, next, task: "", "retry-after": "" }))
      value ? this.setAttribute(name, value) : this.removeAttribute(name);
  }

  #tell(type, reason, data = null) {
    const [fragment, outcome, age] = ["name", "state", "age"].map((name) => this.getAttribute(name));
    const detail = { fragment, outcome, age: age && +age, reason, data };
    this.dispatchEvent(new CustomEvent("bff:" + type, { bubbles: true, detail }));
  }

  async #follow(url, later, signal) {
    const bar = this.appendChild(document.createElement("progress"));
    bar.ariaLabel = this.dataset.working ?? "Working";
    this.setAttribute("task", url);
    do {
      const answer = await ask(url, later || 1, signal);
      var said = answer?.ok ? await answer.json() : 0;
      later = after(answer);
      if (said.progress) bar.value = said.progress;
    } while (/pending|running/.test(said.state));
    bar.remove();
    this.removeAttribute("task");
    if (said.state != "succeeded") return this.#tell("error", "task");
    if (said.result) this.replaceChildren(anchor(said.result, this.dataset.result ?? "Download"));
    this.#is("fresh");
    this.#tell("load", "task");
  }
}

const near = new IntersectionObserver(
  (seen) => {
    for (const { target, isIntersecting } of seen) {
      const slot = isIntersecting && target.closest("bff-fragment");
      if (slot) near.unobserve(target), slot == target ? slot.load() : slot.more();
    }
  },
  { rootMargin: "200px" },
);

const slots = /** @type {Set<Slot>} */ (new Set());
let source;
let wanted = "";
let last = performance.timeOrigin;
let soon;
const connect = () => parsed.then(() => (clearTimeout(soon), (soon = setTimeout(listen, 50))));
const listen = () => {
  const names = [...slots].map((slot) => "fragment=" + encodeURIComponent(slot.src.slice(16)));
  const query = document.hidden ? "" : [...new Set(names)].slice(0, 64).join("&");
  if (query == wanted) return;
  source?.close();
  wanted = query;
  if (!query) return;
  source = new EventSource(`/_bff/live?${query}&since=${last - Date.now()}`);
  source.onerror = () => source.readyState == 2 && ((wanted = ""), (soon = setTimeout(listen, 15e3)));
  source.addEventListener("refresh", (event) => {
    last = Date.now();
    for (const slot of slots) if (slot.src == JSON.parse(event.data).src && !slot.matches("[load][state=pending]")) slot.load(0.2);
  });
};

const visible = () => document.hidden && new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
document.addEventListener("visibilitychange", connect);
addEventListener("input", (event) => touched.add(event.target), true);
addEventListener("click", (event) => {
  const slot = event.target.closest("bff-fragment");
  const more = slot?.matches("[more]") && event.target.closest("a[rel=next]");
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || !(more || slot?.matches("[load=click][state=pending]"))) return;
  event.preventDefault();
  if (more) slot.more();
  else if (!slot.ariaBusy) slot.load();
});
customElements.define("bff-fragment", Slot);
