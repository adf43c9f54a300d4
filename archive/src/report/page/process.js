// The tree of processes, and the pane of one process.

const processes = data.processes.rows;
const processOf = new Map(processes.map((process, at) => [process.pid, { process, at }]));
const commandOf = (pid) => processOf.get(pid)?.process.name ?? '';
const filesOf = data.files.rows.reduce((all, file) => {
  if (!all.has(file[0])) all.set(file[0], []);
  all.get(file[0]).push(file);
  return all;
}, new Map());

for (const process of processes) {
  process.kinds = byKind(mapsOf.get(process.pid) ?? [], (map) => map.own);
}
const mostPages = processes.reduce((most, process) => Math.max(most, process.own), 1);

const tree = {
  folded: new Set(),
  chosen: null,
  /** The processes to show: those that fit, with the way to them. */
  list() {
    const shown = [];
    const way = [];
    const keep = new Uint8Array(processes.length);
    processes.forEach((process, i) => {
      way.length = Math.min(way.length, process.depth);
      if (words.length > 0 && fits(process.text)) {
        keep[i] = 2;
        for (let k = way.length - 1; k >= 0 && keep[way[k]] === 0; k -= 1) keep[way[k]] = 1;
      }
      way.push(i);
    });
    let hidden = Infinity;
    processes.forEach((process, i) => {
      if (process.depth > hidden && words.length === 0) return;
      hidden = this.folded.has(process.pid) ? process.depth : Infinity;
      if (words.length === 0 || keep[i] > 0) shown.push([process, keep[i] === 1, i]);
    });
    return shown;
  },
};

const parents = new Set(processes.map((process) => process.ppid));

/** The name of a process, and its command line as far as the name does not say it. */
function called({ name, args }) {
  if (!args?.length) return [name, ''];
  const program = args[0].split('/').pop();
  // A process may have given itself another name than that of its program.
  return program.startsWith(name) ? [program, args.slice(1).join(' ')] : [name, args.join(' ')];
}

function drawProcess([process, isWay, at]) {
  const isParent = (processes[at + 1]?.depth ?? 0) > process.depth;
  const [program, rest] = called(process);
  const open = isParent ? String(!tree.folded.has(process.pid) || words.length > 0) : null;
  return el('tr', {
    'data-pid': process.pid,
    tabindex: process.pid === tree.chosen ? '0' : '-1',
    class: isWay ? 'way' : null,
    'aria-level': process.depth + 1,
    'aria-expanded': open,
    'aria-selected': String(process.pid === tree.chosen),
  },
  el('td', { class: 'wide', title: process.args?.length ? process.args.join(' ') : process.name },
    el('span', { class: 'step', vars: { width: `${Math.min(process.depth, 20) * 16}px` } }),
    el('span', { class: 'turn', 'aria-hidden': 'true' }),
    marked(program), ' ', el('span', { class: 'words' }, marked(rest))),
  el('td', { class: 'n mono' }, marked(process.pid)),
  el('td', { class: 'n narrow' }, process.threads > 1 ? grouped(process.threads) : ''),
  td(process.state === 'alive' ? '' : process.state, 'narrow'),
  el('td', { class: 'n' }, process.state === 'zombie' ? '' : kib(process.own)),
  el('td', { class: 'amount narrow' }, el('div', { class: 'amounts', 'aria-hidden': 'true' }, bar(process.kinds, mostPages))));
}

/** The pane of a process. */
function drawPane(pid) {
  const { process } = processOf.get(pid);
  const maps = mapsOf.get(pid) ?? [];
  const files = filesOf.get(pid) ?? [];
  const security = data.security.rows[process.security[0]];
  const touched = data.working_set.rows.find(([of]) => of === pid);
  const children = processes.filter((other) => other.ppid === pid);
  const facts = [
    ['State', process.state],
    ['Parent', process.ppid ? [toProcess(process.ppid), ` ${commandOf(process.ppid)}`] : 'none, the root of the tree'],
    ['Children', children.length ? first(children, 12, (child) => [toProcess(child.pid), ' ']) : null],
    ['Session, group', `${process.sid}, ${process.pgid}`],
    ['Threads', process.threads > 1 ? `${grouped(process.threads)}: ${process.tids.slice(0, 24).join(' ')}${process.threads > 24 ? ' \u2026' : ''}` : null],
    ['Program', process.exe], ['Directory', process.cwd],
    ['Root', process.root === '/' ? null : process.root],
    ['Own namespaces', data.namespaces.rows.filter(([, , isHost, , pids]) => !isHost && pids.includes(pid)).map(([kind]) => kind).join(', ') || null],
    ...(security ? securityFacts(security, true) : []),
    ['Threads differ', process.security.length > 1 ? [el('a', { href: '#security' }, 'in their credentials or restrictions')] : null],
    ['Working set', touched ? `${pages(touched[2])} of ${pages(touched[3])} were touched after the last restore` : null],
  ].filter(([, value]) => value !== null && value !== undefined);
  const command = process.args?.length ? process.args.join(' ') : null;
  return el('div', null,
    el('h3', null, process.name, ' ', el('span', { class: 'quiet' }, `pid ${pid}`)),
    command ? el('p', { class: 'command mono' }, command) : null,
    list(facts),
    process.env ? el('details', null, el('summary', null, `Environment (${grouped(process.env.length)})`),
      el('div', { class: 'lines mono' }, process.env.map((line) => el('div', null, line)))) : null,
    maps.length ? [
      el('h4', null, 'Memory', el('span', { class: 'quiet' },
        `${count(maps.length + process.maps_left, 'mapping')}, ${pages(process.mapped)} mapped, ${pages(process.own)} its own`)),
      memoryMap(maps, process.maps_left),
      el('details', null, el('summary', null, 'Mappings as a table'),
        el('div', { class: 'box', tabindex: '0' }, table(MEMORY_HEADS.slice(2),
          el('tbody', null, maps.slice(0, MOST_DRAWN).map((map) => labelled(drawMapping(map, true), MEMORY_HEADS.slice(2))))))),
    ] : el('p', { class: 'quiet' }, process.state === 'zombie' ? 'A zombie has neither memory nor files.' : 'Its memory is not in the images.'),
    files.length ? [
      el('h4', null, 'Open files', el('span', { class: 'quiet' }, grouped(files.length + process.files_left))),
      el('div', { class: 'box', tabindex: '0' }, table(FILE_HEADS.slice(2),
        el('tbody', null, files.slice(0, 500).map((file) => labelled(drawFile(file, true), FILE_HEADS.slice(2)))))),
      files.length > 500 ? el('p', { class: 'quiet' }, `The first 500 are listed. The section of open files has ${grouped(files.length)}.`) : null,
      process.files_left > 0 ? el('p', { class: 'quiet' }, `${count(process.files_left, 'more file')} of this process ${process.files_left === 1 ? 'is' : 'are'} not in this report.`) : null,
    ] : null);
}

const list = (facts) => el('dl', null, facts.map(([name, value]) => el('div', null, el('dt', null, name), el('dd', null, value))));

function treeSection() {
  const body = el('tbody');
  const box = el('div', { class: 'box' }, el('table', { class: 'tree', role: 'treegrid', 'aria-label': 'Processes' },
    heads(['Process', '>PID', '>Threads', 'State', '>Own KiB', 'Own memory']), body));
  box.querySelectorAll('th').forEach((th, i) => { if ([2, 3, 5].includes(i)) th.classList.add('narrow'); });
  const pane = el('div', { class: 'pane', role: 'region', 'aria-label': 'The chosen process', 'aria-live': 'off', tabindex: '0' });
  const rows = new Rows(body, drawProcess, box);
  allRows.push(rows);
  const draw = () => rows.show(tree.list());
  const indexOf = (pid) => rows.list.findIndex(([process]) => process.pid === pid);

  /** Chooses a process, and shows it if it is hidden. */
  tree.choose = (pid, { focus = false, scroll = false } = {}) => {
    const found = processOf.get(pid);
    if (!found) return;
    if (indexOf(pid) < 0) {
      let { depth } = found.process;
      for (let i = found.at; i >= 0; i -= 1) {
        if (processes[i].depth >= depth) continue;
        depth = processes[i].depth;
        tree.folded.delete(processes[i].pid);
      }
      draw();
    }
    const before = body.querySelector('[aria-selected="true"]');
    before?.setAttribute('aria-selected', 'false');
    before?.setAttribute('tabindex', '-1');
    const isNew = tree.chosen !== pid;
    tree.chosen = pid;
    const index = indexOf(pid);
    const row = index < 0 ? null : rows.row(index);
    row?.setAttribute('aria-selected', 'true');
    row?.setAttribute('tabindex', '0');
    if (focus) row?.focus({ preventScroll: true });
    if (row && (focus || scroll)) {
      const head = box.querySelector('thead').offsetHeight;
      const top = row.offsetTop - head;
      if (top < box.scrollTop) box.scrollTop = top;
      else if (row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight) {
        box.scrollTop = row.offsetTop + row.offsetHeight - box.clientHeight;
      }
    }
    if (isNew) {
      pane.replaceChildren(drawPane(pid));
      pane.scrollTop = 0;
    }
    if (scroll) byId('processes').scrollIntoView();
  };

  /** Goes to the first process that fits the filter. Returns false if there is none. */
  tree.enter = () => {
    const hit = rows.list.find(([, isWay]) => !isWay);
    if (hit) tree.choose(hit[0].pid, { focus: true, scroll: true });
    return hit !== undefined;
  };
  tree.focus = () => tree.choose(tree.chosen, { focus: true });

  const fold = (pid, isFolded) => {
    if (isFolded) tree.folded.add(pid);
    else tree.folded.delete(pid);
    const at = box.scrollTop;
    const drawn = rows.drawn;
    draw();
    if (drawn > rows.drawn) rows.more(drawn - rows.drawn);
    box.scrollTop = at;
  };
  body.addEventListener('click', (event) => {
    const row = event.target.closest('tr');
    const pid = Number(row.dataset.pid);
    if (event.target.closest('.turn') && row.hasAttribute('aria-expanded')) fold(pid, !tree.folded.has(pid));
    tree.choose(pid, { focus: true });
    remember();
  });
  body.addEventListener('keydown', (event) => {
    const at = indexOf(tree.chosen);
    const [process, , place] = rows.list[at] ?? [];
    if (!process) return;
    const isParent = (processes[place + 1]?.depth ?? 0) > process.depth;
    const isOpen = isParent && !tree.folded.has(process.pid);
    const to = {
      ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 15, PageUp: at - 15, Home: 0, End: rows.list.length - 1,
    }[event.key];
    let next = to === undefined ? undefined : Math.max(0, Math.min(rows.list.length - 1, to));
    if (event.key === 'ArrowRight') {
      if (isParent && !isOpen) fold(process.pid, false);
      else next = isOpen ? at + 1 : at;
    } else if (event.key === 'ArrowLeft') {
      if (isOpen) fold(process.pid, true);
      else next = Math.max(0, indexOf(process.ppid));
    } else if (event.key === 'Enter') {
      event.preventDefault();
      pane.focus();
      return;
    } else if (next === undefined) {
      return;
    }
    event.preventDefault();
    tree.choose(next === undefined ? process.pid : rows.list[next][0].pid, { focus: true });
    remember();
  });
  const all = (isFolded) => () => {
    tree.folded = new Set(isFolded ? processes.filter((process) => parents.has(process.pid)).map((process) => process.pid) : []);
    draw();
  };
  const tools = el('div', { class: 'tools' },
    el('button', { type: 'button', onclick: all(false) }, 'Unfold all'),
    el('button', { type: 'button', onclick: all(true) }, 'Fold all'));
  return { nodes: [el('div', { class: 'split' }, box, pane)], draw, tools };
}
