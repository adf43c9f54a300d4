// Memory: kinds of mappings, and the map of a process.

const KINDS = {
  code: 'program code',
  file: 'file data',
  heap: 'heap',
  anon: 'anonymous',
  stack: 'stack',
  shared: 'shared',
  kernel: 'kernel',
};
// The places of pages, in the order of the numbers of a mapping.
const STATES = [
  ['p', 'in the images'],
  ['r', 'in the parent set'],
  ['l', 'kept back for later'],
  ['z', 'untouched, zero'],
  ['f', 'absent: in the mapped file'],
  ['s', 'shared memory'],
  ['k', 'of the kernel'],
];

const mappings = data.memory.rows.map(([pid, start, end, permissions, offset, name, cells, amounts]) => {
  const map = { pid, start, end, permissions, offset, name: data.names[name], cells, amounts };
  map.kind = kindOf(map);
  map.pages = amounts.reduce((sum, some) => sum + some, 0);
  map.own = amounts[0] + amounts[1] + amounts[2];
  return map;
});
const mapsOf = Map.groupBy ? Map.groupBy(mappings, (map) => map.pid) : mappings.reduce((all, map) => {
  if (!all.has(map.pid)) all.set(map.pid, []);
  all.get(map.pid).push(map);
  return all;
}, new Map());

function kindOf({ name, permissions }) {
  if (name.startsWith('[stack')) return 'stack';
  if (name === '[heap]') return 'heap';
  if (/^\[(vdso|vvar|vsyscall|vvar_vclock)\]$/.test(name)) return 'kernel';
  if (permissions[3] === 's') return 'shared';
  if (name.startsWith('/')) return permissions[2] === 'x' ? 'code' : 'file';
  return 'anon';
}

const swatch = (kind) => el('i', { class: `swatch ${kind}`, 'aria-hidden': 'true' });
const nameOf = (map) => map.name || 'anonymous';

/** Pages by kind, the kinds without pages left out. */
function byKind(maps, amount) {
  return Object.keys(KINDS)
    .map((kind) => [kind, maps.filter((map) => map.kind === kind).reduce((sum, map) => sum + amount(map), 0)])
    .filter(([, sum]) => sum > 0);
}

/** A bar of pages by kind, `most` pages wide. */
function bar(kinds, most) {
  const sum = kinds.reduce((all, [, some]) => all + some, 0);
  return [
    kinds.map(([kind, some]) => el('i', { class: kind, vars: { flex: `${some} 0 0px` } })),
    el('b', { vars: { flex: `${Math.max(0, most - sum)} 0 0px` } }),
  ];
}

/** The facts of a mapping, in one or two lines. */
function told(map) {
  const parts = map.amounts.map((some, i) => (some ? `${pages(some)} ${STATES[i][1]}` : null)).filter(Boolean);
  return [
    el('b', null, swatch(map.kind), nameOf(map)),
    `, ${KINDS[map.kind]}, ${pages(map.pages)}: ${parts.join(', ') || 'no pages'}. `,
    el('span', { class: 'mono' }, `${map.start}\u2013${map.end} ${map.permissions}`),
    map.offset === '0' ? '' : ` at offset 0x${map.offset}`,
  ];
}

/** The cells of a mapping: where its pages are, or how many are in each place. */
function cells(map) {
  const runs = map.cells
    ? [...map.cells.matchAll(/([a-z])(\d+)/g)].map(([, state, length]) => [state, Number(length)])
    : map.amounts.map((some, i) => [STATES[i][0], some]).filter(([, some]) => some > 0);
  return el('div', { class: 'cells' }, runs.map(([state, length]) =>
    el('i', { class: state, vars: { 'flex-grow': length } })));
}

/** The memory map of a process. */
function memoryMap(maps, left) {
  const own = byKind(maps, (map) => map.own);
  const total = own.reduce((sum, [, some]) => sum + some, 0);
  const facts = el('p', { class: 'told', 'aria-live': 'polite' }, 'Point at a mapping, or move with the arrow keys.');
  const field = el('div', { class: 'map', role: 'group', 'aria-label': 'Mappings by rising address' });
  let chosen = null;
  const choose = (button) => {
    chosen?.removeAttribute('aria-current');
    chosen?.setAttribute('tabindex', '-1');
    chosen = button;
    button.setAttribute('aria-current', 'true');
    button.setAttribute('tabindex', '0');
    facts.replaceChildren(...told(button.map).filter((part) => part !== ''));
  };
  let before = null;
  for (const map of maps.slice(0, MOST_DRAWN)) {
    const start = BigInt(`0x${map.start}`);
    if (before !== null && start - before >= FAR) {
      field.append(el('span', { class: 'gap' }, `\u22ef ${size(Number(start - before))} \u22ef`));
    }
    before = BigInt(`0x${map.end}`);
    // Twice the pages make a box wider by a step.
    const wide = 12 + 9 * Math.log2(1 + map.pages);
    const short = map.name.split('/').pop() || (map.kind === 'anon' ? '' : nameOf(map));
    const button = el('button', {
      type: 'button',
      class: map.kind,
      tabindex: '-1',
      'aria-label': `${nameOf(map)}, ${KINDS[map.kind]}, ${map.permissions}, ${pages(map.pages)}, ${pages(map.own)} in the images`,
      vars: { '--wide': `${Math.round(wide)}px` },
    }, el('span', null, wide > 40 ? short.replace(/^\[(.*)\]$/, '$1') : ''), cells(map));
    button.map = map;
    field.append(button);
  }
  for (const event of ['mouseover', 'focusin', 'click']) {
    field.addEventListener(event, ({ target }) => {
      const button = target.closest('button');
      if (button) choose(button);
    });
  }
  field.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    const buttons = [...field.querySelectorAll('button')];
    if (step === undefined || buttons.length === 0) return;
    event.preventDefault();
    const at = buttons.indexOf(chosen) + step;
    buttons[Math.max(0, Math.min(buttons.length - 1, at))].focus();
  });
  field.querySelector('button')?.setAttribute('tabindex', '0');
  const drawn = new Set(maps.flatMap((map) => map.amounts.map((some, i) => (some ? i : -1))));
  return [
    el('div', { class: 'whole', role: 'img', 'aria-label': `Its own pages by kind, to scale: ${own.map(([kind, some]) => `${KINDS[kind]} ${pages(some)}`).join(', ')}` },
      bar(own, total || 1)),
    el('div', { class: 'legend' }, own.map(([kind, some]) =>
      el('span', null, swatch(kind), KINDS[kind], ' ', el('b', null, pages(some))))),
    field,
    maps.length > MOST_DRAWN ? el('p', { class: 'quiet' }, `The first ${grouped(MOST_DRAWN)} of ${count(maps.length, 'mapping')} are drawn.`) : null,
    left > 0 ? el('p', { class: 'quiet' }, `${count(left, 'more mapping')} of this process ${left === 1 ? 'is' : 'are'} not in this report.`) : null,
    facts,
    el('div', { class: 'legend' }, STATES.map(([state, words], i) => (drawn.has(i)
      ? el('span', null, el('i', { class: `state ${state}`, 'aria-hidden': 'true' }), words) : null))),
  ];
}

// Boxes of one map; a process with more is no picture any more.
const MOST_DRAWN = 1500;
// A gap of at least so many bytes is drawn.
const FAR = 1n << 30n;

const MEMORY_HEADS = ['>PID', 'Process', '>Address', '>KiB', '>Own KiB', 'Access', 'Kind', 'Mapping'];
function drawMapping(map, ofOne) {
  return el('tr', null,
    ofOne ? null : [ofProcess(map.pid), td(commandOf(map.pid))],
    el('td', { class: 'n mono' }, marked(map.start)),
    number(kib(map.pages)), number(kib(map.own)),
    td(map.permissions, 'mono'),
    el('td', null, swatch(map.kind), marked(KINDS[map.kind])),
    td(map.name, 'wide'));
}
