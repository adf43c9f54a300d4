// The page: sections, the filter, links, the theme.

/** The numbers that say most, as links to their sections. */
function figures() {
  const [tasks, checkpoint, memory] = data.figures;
  const all = (of) => of.rows.length + of.left;
  const severities = (name) => data.findings.rows.filter(([severity]) => severity === name).length;
  const [errors, warnings] = [severities('error'), severities('warning')];
  const state = (name) => data.sockets.rows.filter((socket) => socket[1] === name).length;
  const [listen, connected] = [state('LISTEN'), state('ESTAB')];
  const facts = [
    ['processes', tasks && grouped(tasks[0]), 'processes', tasks && count(tasks[1], 'thread')],
    ['memory', size(memory), 'of memory', `in ${size(checkpoint)} of images`],
    ['files', grouped(all(data.files)), 'open files', 'descriptors, all processes'],
    ['sockets', grouped(all(data.sockets)), 'sockets', `${grouped(listen)} listening, ${grouped(connected)} connected`],
    ['needs', grouped(all(data.needs)), 'restore options', 'beyond the images'],
    ['findings', grouped(all(data.findings)), 'findings', `${count(errors, 'error')}, ${count(warnings, 'warning')}`,
      errors ? 'error' : warnings ? 'warning' : null],
  ];
  return el('div', { class: 'figures' }, facts.filter(([, figure]) => figure).map(([section, figure, what, more, kind]) =>
    el('a', { href: `#${section}` }, el('b', { class: kind }, figure), el('span', null, what), el('small', null, more))));
}

/** The facts about the checkpoint as a whole. */
function factsSection() {
  const cards = data.facts.rows.map(({ title, rows }) => {
    const lines = rows.map(([name, value]) => ({ name, value, text: lower(name, value), value_at: el('dd'), name_at: el('dt') }));
    const facts = el('dl', null, lines.map((line) => el('div', null, line.name_at, line.value_at)));
    return { title: title.toLowerCase(), lines, node: el('div', null, el('h3', null, title), facts) };
  });
  const draw = () => {
    let shown = 0;
    for (const { title, lines, node } of cards) {
      let here = 0;
      for (const line of lines) {
        const isShown = words.length === 0 || fits(`${title} ${line.text}`);
        here += isShown ? 1 : 0;
        line.name_at.hidden = !isShown;
        line.value_at.hidden = !isShown;
        line.name_at.replaceChildren(...marked(line.name));
        line.value_at.replaceChildren(...marked(line.value));
      }
      node.hidden = here === 0;
      shown += here;
    }
    return shown;
  };
  const total = cards.reduce((sum, card) => sum + card.lines.length, 0);
  return { id: 'overview', title: 'Overview', total, nodes: [figures(), el('div', { class: 'facts' }, cards.map((card) => card.node))], draw };
}

function tableSection(section) {
  const rows = section.of.rows;
  const body = section.heads ? el('tbody') : el('div', { class: 'cards' });
  const box = section.heads
    ? el('div', { class: 'box', tabindex: '0', role: 'region', 'aria-label': section.title }, table(section.heads, body))
    : el('div', { class: 'box', tabindex: '0', role: 'region', 'aria-label': section.title }, body);
  const none = el('p', { class: 'remark' });
  const names = section.heads;
  const view = new Rows(body, names ? (row) => labelled(section.draw(row), names) : section.draw, box);
  allRows.push(view);
  let texts = null;
  const read = () => { texts ??= rows.map(section.text); };
  // The first filter finds the texts made.
  window.requestIdleCallback?.(read);
  const draw = () => {
    if (words.length > 0) read();
    const shown = words.length === 0 ? rows : rows.filter((_, i) => fits(texts[i]));
    view.show(shown);
    box.hidden = shown.length === 0;
    none.hidden = shown.length > 0;
    none.textContent = section.none ?? 'None.';
    return shown.length;
  };
  return { ...section, total: rows.length, nodes: [box, none], draw, enter: () => box.focus() };
}

function processSection(section) {
  for (const process of processes) {
    process.text = lower(process.pid, process.tids, process.name, process.args ?? [], process.exe ?? '', process.cwd ?? '',
      process.state, process.user ?? '', process.env ?? []);
  }
  const { nodes, draw, tools } = treeSection();
  return {
    ...section, total: processes.length, nodes, tools,
    draw() {
      draw();
      return words.length === 0 ? processes.length : processes.filter((process) => fits(process.text)).length;
    },
  };
}

const sections = [factsSection(), ...SECTIONS.map((section) => (section.tree ? processSection(section) : tableSection(section)))];

function build() {
  for (const section of sections) {
    const left = section.of?.left ?? 0;
    section.badge = el('span', { class: 'number' });
    section.link = el('a', { href: `#${section.id}` }, section.title, section.id === 'overview' ? null : section.badge);
    byId('sections').append(section.link);
    const title = el('h2', { id: `${section.id}-title` }, section.title);
    byId('main').append(el('section', { id: section.id, 'aria-labelledby': `${section.id}-title` },
      section.tools ? el('div', { class: 'title' }, title, section.tools) : title,
      section.nodes,
      left > 0 ? el('p', { class: 'remark left' },
        `${count(left, 'more row')} ${left === 1 ? 'does' : 'do'} not fit into this report. criu-rs inspect --json has all.`) : null));
  }
  byId('main').append(el('p', { class: 'remark', id: 'nothing', hidden: true }, 'Nothing in this checkpoint fits the filter.'));
  for (const line of data.notes) byId('foot').append(el('p', null, line));
}

/** Draws what fits the filter, and says how much that is. */
function filter(query) {
  words = query.toLowerCase().split(/\s+/).filter(Boolean);
  document.body.classList.toggle('filtering', words.length > 0);
  let found = 0;
  for (const section of sections) {
    const shown = section.draw();
    found += shown;
    const all = grouped(section.total + (section.of?.left ?? 0));
    section.badge.textContent = words.length > 0 ? `${grouped(shown)}/${all}` : all;
    section.badge.classList.toggle('some', words.length > 0 && shown > 0);
    section.link.classList.toggle('none', shown === 0);
    // The filter leaves the sections that have something, and their links.
    byId(section.id).hidden = words.length > 0 && shown === 0;
  }
  byId('nothing').hidden = found > 0 || words.length === 0;
  byId('found').textContent = words.length > 0 ? `${count(found, 'row')} found` : '';
}

/** Puts the state of the page into its address, for links. */
function remember() {
  const parts = [];
  if (tree.chosen !== null && tree.chosen !== processes[0]?.pid) parts.push(`pid-${tree.chosen}`);
  if (byId('filter').value) parts.push(`q=${encodeURIComponent(byId('filter').value)}`);
  if (document.documentElement.dataset.theme) parts.push(`theme=${document.documentElement.dataset.theme}`);
  history.replaceState(null, '', parts.length ? `#${parts.join('&')}` : location.href.replace(/#.*/, ''));
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Follows the address: `#pid-7`, `#q=nginx`, `#theme=dark`, joined by "&". */
function follow() {
  for (const part of location.hash.slice(1).split('&')) {
    const [name, value] = part.split(/=(.*)/s);
    if (name === 'q') {
      byId('filter').value = decoded(value ?? '');
      filter(byId('filter').value);
    } else if (name === 'theme') {
      theme(value);
    } else if (/^pid-\d+$/.test(name)) {
      tree.choose(Number(name.slice(4)), { scroll: true });
    }
  }
}

/** Goes to the first thing that fits the filter: a process, or the rows of a section. */
function enter() {
  if (tree.enter()) return remember();
  const hit = sections.find((section) => section.enter && words.length > 0 && !byId(section.id).hidden);
  if (hit) {
    byId(hit.id).scrollIntoView();
    hit.enter();
  }
}

function theme(name) {
  const root = document.documentElement;
  if (['light', 'dark'].includes(name)) root.dataset.theme = name;
  else delete root.dataset.theme;
  byId('theme').textContent = `Theme: ${root.dataset.theme ?? 'system'}`;
}

function listen() {
  byId('filter').addEventListener('input', ({ target }) => {
    filter(target.value);
    remember();
  });
  byId('theme').addEventListener('click', () => {
    theme({ undefined: 'light', light: 'dark' }[document.documentElement.dataset.theme]);
    remember();
  });
  document.addEventListener('keydown', (event) => {
    const isTyping = event.target.matches('input');
    if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      byId('filter').select();
    } else if (event.key === 'Escape' && byId('filter').value) {
      const isInTree = event.target.closest('.tree');
      byId('filter').value = '';
      filter('');
      remember();
      // The filter draws new rows.
      if (isInTree) tree.focus();
    } else if (event.key === 'Escape') {
      // From the filter and from the pane, back to the tree.
      tree.focus();
    } else if (event.target.id === 'filter' && ['Enter', 'ArrowDown'].includes(event.key)) {
      event.preventDefault();
      enter();
    }
  });
  document.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-pid]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    tree.choose(Number(link.dataset.pid), { scroll: true });
    remember();
  });
  window.addEventListener('hashchange', follow);
  window.addEventListener('beforeprint', () => allRows.forEach((rows) => rows.more(Math.max(0, MOST_PRINTED - rows.drawn))));
  const seen = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) sections.find(({ id }) => id === target.id).isSeen = isIntersecting;
    const first = sections.find((section) => section.isSeen);
    for (const { link } of sections) link.removeAttribute('aria-current');
    first?.link.setAttribute('aria-current', 'true');
  }, { rootMargin: '-100px 0px -40% 0px' });
  for (const { id } of sections) seen.observe(byId(id));
  const head = document.querySelector('header');
  new ResizeObserver(() => document.documentElement.style.setProperty('--head', `${head.offsetHeight}px`)).observe(head);
}

// Rows of each section on paper.
const MOST_PRINTED = 2000;

build();
filter('');
if (processes.length > 0) tree.choose(processes[0].pid);
listen();
follow();
document.documentElement.dataset.ready = 'true';
