// Pages are complete without this. It keeps elements with data-live current, and adds keys, copy buttons, the viewer's zone.
"use strict";
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  // Times, in the words of words.rs.
  const two = (large, unit, small, smallUnit) => `${large} ${unit}` + (small ? ` ${small} ${smallUnit}` : "");
  const duration = (s) => s < 60 ? `${s} s` : s < 3600 ? two(s / 60 | 0, "m", s % 60, "s")
    : s < 172800 ? two(s / 3600 | 0, "h", (s / 60 | 0) % 60, "m") : two(s / 86400 | 0, "d", (s / 3600 | 0) % 24, "h");
  const rough = (s, units) => s < 60 ? s + units[0] : s < 5400 ? (s / 60 | 0) + units[1]
    : s < 172800 ? (s / 3600 | 0) + units[2] : (s / 86400 | 0) + units[3];
  // Made once: making one is slow.
  const whole = new Intl.DateTimeFormat([], { dateStyle: "full", timeStyle: "long" });
  const hour = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
  const clock = (date) => hour.format(date);
  const times = (within = document) => {
    for (const element of all("time", within)) {
      const date = new Date(element.dateTime);
      const age = Math.round((Date.now() + skew - date) / 1000);
      element.title = whole.format(date);
      const data = element.dataset;
      const text = "clock" in data ? clock(date) : "short" in data ? rough(Math.max(age, 0), ["s", "m", "h", "d"])
        : "lasting" in data ? duration(Math.max(age, 0))
        : (age < 0 ? "in " : "") + rough(Math.abs(age), [" s", " min", " h", " d"]) + (age < 0 ? "" : " ago");
      if (element.textContent !== text) element.textContent = text;
    }
  };
  // The farm's clock counts, not the viewer's.
  const drawn = one("#live time");
  let skew = drawn ? new Date(drawn.dateTime) - Date.now() : 0;
  if (Math.abs(skew) < 90000) skew = 0;

  // Reading the page again and taking over what changed.
  let reading = false, again = false, last = 0;
  const take = (from, to) => {
    if (from.innerHTML === to.innerHTML) return;
    const open = all("details[id]", to).filter((details) => details.open).map((details) => details.id);
    if ("keyed" in from.dataset) {
      // Rows that are the same stay the same elements, and are not laid out again.
      to.replaceChildren(...[...from.children].map((child) => {
        const old = child.id && byId(child.id);
        return old && old.outerHTML === child.outerHTML ? old : child;
      }));
    } else to.innerHTML = from.innerHTML;
    for (const id of open) if (byId(id)) byId(id).open = true;
  };
  const refresh = async () => {
    if (document.hidden || reading) { again = true; return; }
    reading = true; again = false;
    const wait = last + 1000 - performance.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    try {
      const answer = await fetch(location.href.split("#")[0]);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) replace(fresh);
    } catch { lost(); }
    last = performance.now(); reading = false;
    if (again) refresh();
  };
  const replace = (fresh) => {
    times(fresh);
    const ids = (doc) => all("[data-live]", doc).map((element) => element.id).join();
    // Somebody is about to copy: the page can wait.
    if (!getSelection().isCollapsed) return;
    if (ids(fresh) !== ids(document)) {
      one("main").innerHTML = one("main", fresh).innerHTML;
    } else {
      for (const from of all("[data-live]", fresh)) take(from, byId(from.id));
      const grid = one("#grid", fresh);
      if (grid) byId("grid").className = grid.className;
    }
    document.title = fresh.title;
    const icon = one("#icon", fresh).getAttribute("href");
    if (byId("icon").getAttribute("href") !== icon) byId("icon").setAttribute("href", icon);
    decorate();
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden && again) refresh(); });

  // The stream of what changed.
  const status = byId("live");
  let stream, heard = 0, since, delay = 1000, address = document.body.dataset.events;
  const say = (text, name) => { if (status.textContent !== text) status.textContent = text; status.className = "right soft " + name; };
  const lost = () => {
    if (!address || !stream) return;
    stream.close(); stream = null;
    since ??= new Date();
    say(`not live since ${clock(since)}`, "off");
    setTimeout(listen, delay);
    delay = Math.min(delay * 2, 30000);
  };
  const on = (name, act) => stream.addEventListener(name, (event) => { heard = Date.now(); act(event.data && JSON.parse(event.data)); });
  const listen = () => {
    stream = new EventSource(address);
    heard = Date.now();
    stream.onerror = lost;
    on("beat", () => {
      say("live", "on"); delay = 1000;
      if (since) { since = null; refresh(); }
    });
    on("change", refresh);
    on("cell", cell);
    on("log", tail);
  };
  setInterval(() => { times(); if (stream && Date.now() - heard > 30000) lost(); }, 5000);

  // A cell, and which of its group stands for it on a narrow screen.
  const urgency = "ftirwkpcsn";
  const cell = (event) => {
    const row = byId(event.row);
    const column = all("#heads [data-b]").findIndex((head) => head.dataset.b === event.builder);
    const old = row && column >= 0 && all(".g > *", row)[column];
    if (!old) return;
    const template = document.createElement("template");
    template.innerHTML = event.html;
    const fresh = template.content.firstChild, group = old.parentNode;
    old.replaceWith(fresh);
    fresh.classList.add("now");
    setTimeout(() => fresh.classList.remove("now"), 2000);
    const rank = (element) => urgency.indexOf(element.className[0]);
    const worst = [...group.children].reduce((a, b) => rank(b) < rank(a) ? b : a);
    for (const element of group.children) element.classList.toggle("x", element === worst);
  };

  // The tail of a log.
  const tail = (event) => {
    const rest = byId("rest"), pre = byId("tail"), follow = byId("follow");
    if (!rest) return refresh();
    rest.insertAdjacentHTML("beforebegin", event.html);
    rest.textContent = event.rest;
    // An open page must not grow without bound.
    while (pre.children.length > 5000) pre.firstElementChild.remove();
    address = address.replace(/byte=\d+&line=\d+/, `byte=${event.byte}&line=${event.line}`);
    if (follow && follow.checked) bottom();
    if (event.done) refresh();
  };
  const bottom = () => scrollTo(0, document.documentElement.scrollHeight);
  const follow = byId("follow");
  if (follow) {
    follow.parentNode.hidden = false;
    follow.addEventListener("change", () => follow.checked && bottom());
    addEventListener("wheel", (event) => { if (event.deltaY < 0) follow.checked = false; }, { passive: true });
    addEventListener("scroll", () => {
      if (innerHeight + scrollY >= document.documentElement.scrollHeight - 4) follow.checked = true;
    }, { passive: true });
    if (!location.hash) bottom();
  }
  const line = /^#L(\d+)$/.exec(location.hash);
  const target = line && byId(location.hash.slice(1));
  if (target) {
    const details = target.closest("details");
    if (details && !details.open) { details.open = true; target.scrollIntoView(); }
  } else if (line && location.pathname.startsWith("/log/")) {
    const query = new URLSearchParams(location.search);
    if (query.get("line") !== line[1]) {
      query.set("line", line[1]);
      location.replace(`?${query}${location.hash}`);
    }
  }

  // The filter acts while it is typed; its address is the page's.
  const filter = one("[data-filter]");
  let typed;
  filter?.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => {
      const query = new URLSearchParams([...new FormData(filter)].filter(([, value]) => value));
      history.replaceState(null, "", `/?${query}`);
      last = 0; refresh();
    }, 200);
  });

  // Keys.
  const visible = (element) => element.offsetParent !== null;
  const go = (selector, step) => {
    const found = all(selector).filter(visible);
    if (!found.length) return;
    const now = document.activeElement.closest?.(selector) ?? one(".at");
    const at = found.indexOf(now);
    const next = found[at < 0 ? (step > 0 ? 0 : found.length - 1) : Math.min(Math.max(at + step, 0), found.length - 1)];
    one(".at")?.classList.remove("at");
    next.classList.add("at");
    const focus = next.matches("a, summary, [tabindex]") ? next : one("a", next) ?? next;
    focus.focus({ preventScroll: true });
    next.scrollIntoView({ block: "center" });
  };
  const failures = ".g > .f, .g > .t, [data-bad], pre .hit, .log pre .bad";
  const rows = "#rows .row, .rowlike, .log summary";
  const keys = {
    "/": () => one("[data-key='/']")?.focus(),
    j: () => go(rows, 1), k: () => go(rows, -1), n: () => go(failures, 1), p: () => go(failures, -1),
    "?": () => byId("help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=search], textarea");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });

  // Copy buttons.
  const decorate = () => {
    times();
    for (const element of all("[data-copy]")) {
      if (element.nextElementSibling?.className === "copy") continue;
      const button = document.createElement("button");
      button.className = "copy"; button.type = "button"; button.textContent = "copy";
      button.onclick = async () => {
        await navigator.clipboard.writeText(element.textContent);
        button.textContent = "copied";
        setTimeout(() => button.textContent = "copy", 1500);
      };
      element.after(button);
    }
  };

  decorate();
  if (address) listen();
})();
