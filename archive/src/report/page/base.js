'use strict';

// All that is known about the checkpoint. Its text reaches the page through text nodes alone.
const data = JSON.parse(document.getElementById('data').textContent);
const byId = (id) => document.getElementById(id);

/** Makes an element. `on...` are listeners, `vars` are CSS variables, the others attributes. */
function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (key === 'vars') Object.entries(value).forEach(([name, is]) => node.style.setProperty(name, is));
    else node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.flat(9).filter((child) => child !== undefined && child !== null));
  return node;
}

const grouped = (number) => Number(number).toLocaleString('en');
const count = (number, noun, nouns) => `${grouped(number)} ${number === 1 ? noun : nouns ?? noun + 's'}`;

/** Bytes in the unit that suits them. */
function size(bytes) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let unit = 0;
  // 1023.9 MiB would be shown as 1,024 MiB.
  for (; bytes >= 1023.5 && unit < units.length - 1; unit += 1) bytes /= 1024;
  const digits = unit === 0 || bytes >= 100 || Number.isInteger(bytes) ? 0 : 1;
  return `${grouped(bytes.toFixed(digits))} ${unit === 0 && bytes === 1 ? 'byte' : units[unit]}`;
}

const pageSize = data.page_size;
const pages = (number) => size(number * pageSize);
const kib = (number) => grouped(Math.round((number * pageSize) / 1024));

// The words of the filter, in lower case. An item is shown if its text has all of them.
let words = [];
const fits = (text) => words.every((word) => text.includes(word));

/** Text with the words of the filter marked. */
function marked(text) {
  text = String(text ?? '');
  if (words.length === 0 || text === '') return [text];
  const lower = text.toLowerCase();
  // Some letters change their length in lower case: then no place is known.
  if (lower.length !== text.length) return [text];
  const parts = [];
  let at = 0;
  while (at < text.length) {
    let next = text.length;
    let length = 0;
    for (const word of words) {
      const found = lower.indexOf(word, at);
      if (found >= 0 && (found < next || (found === next && word.length > length))) {
        next = found;
        length = word.length;
      }
    }
    parts.push(text.slice(at, next));
    if (length > 0) parts.push(el('mark', null, text.slice(next, next + length)));
    at = next + length;
  }
  return parts;
}

const td = (text, kind) => el('td', { class: kind }, marked(text));
const number = (value) => el('td', { class: 'n' }, typeof value === 'number' ? grouped(value) : value);
/** A number that the filter looks through. */
const id = (value) => el('td', { class: 'n' }, marked(value));
/** The heads of a table. A head that begins with ">" belongs to numbers. */
const heads = (names) => el('thead', null, el('tr', null, names.map((name) =>
  el('th', { scope: 'col', class: name.startsWith('>') ? 'n' : null }, name.replace(/^>/, '')))));

/** A table. On a narrow screen its rows are blocks, in which the numbers have their heads before them. */
const table = (names, body) => el('table', { class: 'stack' }, heads(names), body);
function labelled(row, names) {
  [...row.children].forEach((cell, i) => {
    if (cell.classList.contains('n')) cell.dataset.name = (names[i] ?? '').replace(/^>/, '');
  });
  return row;
}

/** The first items, and how many more there are. */
function first(items, most, draw) {
  const shown = items.length > most + 1 ? items.slice(0, most) : items;
  return [shown.map(draw), items.length > shown.length ? ` and ${grouped(items.length - shown.length)} more` : null];
}

/** A link to a process. */
const toProcess = (pid) => el('a', { href: `#pid-${pid}`, 'data-pid': pid }, marked(pid));
const ofProcess = (pid) => el('td', { class: 'n' }, toProcess(pid));

/** Rows that are drawn as far as the reader scrolls. */
class Rows {
  constructor(body, draw, box) {
    Object.assign(this, { body, draw, list: [], drawn: 0 });
    this.end = new IntersectionObserver((seen) => {
      if (seen.some((one) => one.isIntersecting)) this.more(STEP);
    }, { root: box, rootMargin: '300px' });
  }

  show(list) {
    this.list = list;
    this.drawn = 0;
    this.body.replaceChildren();
    this.more(FIRST);
  }

  /** Draws more rows. The last row drawn tells when it comes into sight. */
  more(rows) {
    const to = Math.min(this.list.length, this.drawn + rows);
    const part = document.createDocumentFragment();
    for (let i = this.drawn; i < to; i += 1) part.append(this.draw(this.list[i], i));
    this.body.append(part);
    this.drawn = to;
    this.end.disconnect();
    if (to < this.list.length && this.body.lastElementChild) this.end.observe(this.body.lastElementChild);
  }

  /** Draws until a row is there, and returns its element. */
  row(index) {
    if (index >= this.drawn) this.more(index + 1 - this.drawn);
    return this.body.children[index];
  }
}
const allRows = [];
// Rows that fill a box. A filter draws no more than these until the reader scrolls.
const FIRST = 40;
// Rows that are drawn when the last row comes into sight.
const STEP = 150;
