// The other sections: tables and lists.

const FILE_HEADS = ['>PID', 'Process', '>FD', 'Access', 'Kind', 'File'];
const ACCESS = { r: 'read', w: 'write', u: 'both' };
function drawFile([pid, fd, mode, kind, name, isDeleted], ofOne) {
  // The description may begin with the kind, and end with what is shown apart.
  const whole = data.names[name].replace(/ \(deleted\)$/, '');
  const file = whole.startsWith(`${kind} `) ? whole.slice(kind.length + 1) : whole;
  return el('tr', null,
    ofOne ? null : [ofProcess(pid), td(commandOf(pid))],
    id(fd), td(ACCESS[mode] ?? ''), td(kind),
    el('td', { class: 'wide' }, marked(file), isDeleted ? el('span', { class: 'warning' }, ' deleted') : null));
}

function drawSocket([protocol, state, received, sent, local, peer, holders, more]) {
  return el('tr', null,
    td(protocol), td(state), td(local, 'text'), td(/^\*( 0)?$/.test(peer) ? '' : peer, 'text'),
    number(received || ''), number(sent || ''),
    el('td', { class: 'wide' }, holders.length === 0 ? el('span', { class: 'quiet' }, 'waits in the queue of another') : null,
      holders.map(([pid, fd], i) => [i ? ', ' : '', toProcess(pid), ' ', marked(commandOf(pid)), el('span', { class: 'quiet' }, ` fd ${fd}`)]),
      more ? ` and ${grouped(more)} more` : null));
}

function drawMount([space, depth, target, source, root, fs, options, external]) {
  return el('tr', null,
    id(space),
    el('td', { class: 'text' }, el('div', { class: 'stepped' },
      el('span', { class: 'step', vars: { width: `${Math.min(depth, 12) * 16}px` } }), el('span', null, marked(target)))),
    td(fs), el('td', { class: 'text' }, marked(source), root === '/' ? null : el('span', { class: 'quiet' }, ' at ', marked(root))),
    el('td', { class: 'wide' }, marked(options.replaceAll(',', ', ')),
      external === null ? null : el('span', { class: 'warning' }, ' external: ', marked(external))));
}

function drawNamespace([kind, number, isHost, external, pids, contents]) {
  const whose = external !== null ? `external: ${external}` : isHost ? 'the host\u2019s' : 'its own';
  return el('tr', null,
    td(kind), id(number),
    el('td', { class: external !== null ? 'warning' : isHost ? 'none' : null }, marked(whose)),
    el('td', { class: 'text' }, first(pids, 12, (pid) => [toProcess(pid), ' '])),
    el('td', { class: 'wide' }, contents.map((line, i) => [i ? ', ' : '', marked(line)])));
}

/** A filter in words: a line for each of its answers. */
function seccompFilter({ summary, instructions, flags }, i, brief) {
  const title = [`filter ${i + 1}`, count(instructions, 'instruction'), ...flags].join(', ');
  // The first answer is for the calls that no other names.
  const lines = summary.split('; ');
  if (lines.length > 1) lines[0] += ' by default';
  return el('details', { open: !brief }, el('summary', null, title), lines.map(answer));
}

/** An answer of a filter. Many calls are folded, unless the filter of the page looks for one. */
function answer(line) {
  const [verb, list] = line.split(/ on (.*)/s);
  const calls = list?.split(', ') ?? [];
  if (calls.length <= 24) return el('div', null, marked(line));
  const open = words.some((word) => list.includes(word));
  return el('div', null, el('details', { open }, el('summary', null, `${verb} on ${count(calls.length, 'call')}`), el('div', null, marked(list))));
}

/** Cgroups with the controllers that have them, where the path alone does not say it. */
function byPath(cgroups) {
  const paths = new Map();
  for (const [, controller, path] of cgroups.map((line) => /^([^:]*):(.*)$/s.exec(line) ?? ['', '', line])) {
    paths.set(path, [...paths.get(path) ?? [], controller || 'unified']);
  }
  return [...paths].map(([path, of]) => (of.join() === 'unified' ? path : `${path} of ${of.join(', ')}`));
}

/** Credentials in words. `brief` leaves out what says nothing. */
function securityFacts(group, brief) {
  const [real, effective, saved, system] = group.users;
  const same = (ids) => ids.every((id) => id === ids[0]);
  const ids = (four) => (same(four) ? String(four[0]) : `real ${four[0]}, effective ${four[1]}, saved ${four[2]}, file system ${four[3]}`);
  const caps = Object.fromEntries(Object.entries(group.capabilities).map(([set, names]) => [set, names.replaceAll(',', ', ')]));
  const facts = [
    ['User', same(group.users) && real === 0 ? '0, root' : ids([real, effective, saved, system])],
    ['Group', ids(group.groups)],
    ['Other groups', group.other_groups.length ? group.other_groups.join(', ') : null],
    ['Capabilities', caps.effective === caps.permitted ? caps.effective : `effective ${caps.effective}; permitted ${caps.permitted}`],
    ['Can ever get', brief && caps.bounding === caps.permitted ? null : caps.bounding],
    ['Inheritable', caps.inheritable === 'none' ? null : caps.inheritable],
    ['Ambient', caps.ambient === 'none' ? null : caps.ambient],
    ['Secure bits', group.secure_bits.length ? group.secure_bits.join(', ') : null],
    ['Label', group.label ?? (brief ? null : 'none saved')],
    ['New privileges', group.no_new_privs ? 'never, by no_new_privs' : brief ? null : 'possible by execve(2)'],
    ['Seccomp', group.seccomp === 'off' ? (brief ? null : 'off') : group.seccomp === 'strict'
      ? 'strict: read, write, exit and sigreturn alone' : group.filters.map((filter, i) => seccompFilter(filter, i, brief))],
    ['Cgroups', group.cgroups.length ? byPath(group.cgroups).map((line) => el('div', null, marked(line))) : null],
  ];
  return facts.filter(([, value]) => value !== null)
    .map(([name, value]) => [name, typeof value === 'string' ? marked(value) : value]);
}

// The processes of each group.
const groupsOf = data.security.rows.map(() => []);
for (const process of processes) process.security.forEach((group) => groupsOf[group]?.push(process));

function drawSecurity(group) {
  const members = groupsOf[data.security.rows.indexOf(group)];
  return el('div', null,
    el('h3', null, count(group.threads, 'thread'), ` of ${count(members.length, 'process', 'processes')}`),
    el('p', null, first(members, 10, ({ pid, name }, i) => [i ? ', ' : '', toProcess(pid), ' ', marked(name)])),
    list(securityFacts(group, false)));
}

const millis = (micros) => (micros / 1000).toFixed(1);
function drawTouched([pid, name, touched, own, runs, first, last]) {
  return el('tr', null, ofProcess(pid), td(name), number(kib(touched)), number(kib(own)),
    number(own ? `${((touched * 100) / own).toFixed(1)} %` : ''), number(runs), number(millis(first)),
    number(millis(last)),
    el('td', { class: 'wide' }, el('div', { class: 'amounts', 'aria-hidden': 'true' }, bar([['anon', touched]], Math.max(own, touched, 1)))));
}

function drawFinding([severity, place, text]) {
  // Images of a process have its number.
  const [, pid] = /^(?:core|ids|mm|pagemap|fs)-(\d+)\.img$/.exec(place) ?? [];
  return el('tr', null, el('td', { class: severity }, marked(severity)), td(place, 'text mono'),
    el('td', { class: 'wide' }, marked(text)), el('td', { class: 'n' }, processOf.has(Number(pid)) ? toProcess(Number(pid)) : ''));
}

const date = (seconds) => {
  const time = new Date(seconds * 1000);
  return seconds === 0 || Number.isNaN(time.getTime()) ? '' : time.toISOString().slice(0, 19).replace('T', ' ');
};
function drawChange([kind, path, bytes, mode, modified]) {
  return el('tr', null, td(kind, kind === 'deleted' ? 'warning' : null), td(path, 'wide'),
    number(kind === 'file' ? bytes : ''), td(mode, 'mono'), td(date(modified)));
}

const lower = (...parts) => parts.flat(3).join(' ').toLowerCase();

// The sections: what they hold, how a row looks, and the text that the filter looks through.
const SECTIONS = [
  {
    id: 'findings', title: 'Findings', of: data.findings, draw: drawFinding, heads: ['Severity', 'Place', 'Finding', '>PID'],
    text: (row) => lower(row), none: 'Nothing was found that a restore would stumble over.',
  },
  {
    id: 'needs', title: 'Restore options', of: data.needs, draw: ([option, why]) => el('tr', null, td(option, 'option mono'), td(why, 'wide')),
    heads: ['Option of criu restore', 'Reason'], text: (row) => lower(row), none: 'A restore needs no option beyond the directory of the images.',
  },
  { id: 'processes', title: 'Processes', of: data.processes, tree: true },
  {
    id: 'memory', title: 'Memory', of: { rows: mappings, left: data.memory.left }, draw: (map) => drawMapping(map, false), heads: MEMORY_HEADS,
    text: (map) => lower(map.pid, commandOf(map.pid), map.start, map.permissions, KINDS[map.kind], map.name), none: 'No memory is in the images.',
  },
  {
    id: 'files', title: 'Open files', of: data.files, draw: (file) => drawFile(file, false), heads: FILE_HEADS,
    text: ([pid, fd, mode, kind, name, isDeleted]) => lower(pid, commandOf(pid), fd, ACCESS[mode] ?? '', kind, data.names[name], isDeleted ? 'deleted' : ''),
  },
  {
    id: 'sockets', title: 'Sockets', of: data.sockets, draw: drawSocket,
    heads: ['Protocol', 'State', 'Local', 'Peer', '>Bytes to read', '>Bytes unsent', 'Held by'],
    text: ([protocol, state, , , local, peer, holders]) => lower(protocol, state, local, peer, holders.map(([pid]) => [pid, commandOf(pid)])),
  },
  {
    id: 'mounts', title: 'Mounts', of: data.mounts, draw: drawMount, heads: ['>Namespace', 'Target', 'Type', 'Source', 'Options'],
    text: (row) => lower(row.slice(2), row[7] === null ? '' : 'external'), none: 'The processes have the mounts of the host. None are saved.',
  },
  {
    id: 'changes', title: 'Changed files', of: data.rootfs, draw: drawChange, heads: ['Change', 'Path', '>Bytes', 'Mode', 'Changed (UTC)'],
    text: ([kind, path, , mode]) => lower(kind, path, mode), none: 'The container changed no file of its image.',
  },
  {
    id: 'namespaces', title: 'Namespaces', of: data.namespaces, draw: drawNamespace, heads: ['Kind', '>Id', 'Whose', 'Processes', 'Contents'],
    text: ([kind, id, isHost, external, pids, contents]) => lower(kind, id, external ?? (isHost ? 'host' : 'own'), pids, contents),
  },
  {
    id: 'security', title: 'Security', of: data.security, draw: drawSecurity,
    text: (group) => lower(group.users, group.groups, group.other_groups, Object.values(group.capabilities), group.secure_bits, group.label ?? '',
      group.no_new_privs ? 'no_new_privs' : '', group.seccomp, group.filters.map((filter) => filter.summary), group.cgroups,
      groupsOf[data.security.rows.indexOf(group)].map(({ pid, name }) => [pid, name])),
  },
  {
    id: 'working-set', title: 'Working set', of: data.working_set, draw: drawTouched,
    heads: ['>PID', 'Process', '>Touched KiB', '>Own KiB', '>Share', '>Runs', '>First ms', '>Last ms', 'Touched'],
    text: ([pid, name]) => lower(pid, name), none: data.working_set_fault ?? 'No working set is recorded beside the images.',
  },
].filter(({ of }) => of !== null);
