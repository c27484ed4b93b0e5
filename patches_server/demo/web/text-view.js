// A `textarea` bound to a text: what is typed goes there, what others do comes here, and the
// selection, the scroll position and the others' cursors stay at the letters they were at.

import { diff, transform, transformPosition } from './delta.js';

const TOGETHER = 700; // milliseconds: edits closer than this are taken back as one

export class TextView {
  #area;
  #text;
  #seen = ''; // what stands in the textarea
  #unseen = []; // what it does not show yet: nothing is written there while a word is composed
  #composing = false;
  #lastEdit = 0;

  constructor(area, text) {
    this.#area = area;
    this.#text = text;
    area.addEventListener('input', () => this.#typed());
    area.addEventListener('compositionstart', () => (this.#composing = true));
    area.addEventListener('compositionend', () => {
      this.#composing = false;
      this.#typed();
      this.#catchUp();
    });
    area.addEventListener('keydown', (event) => this.#key(event));
    text.addEventListener('remote', ({ detail }) => this.#moved(detail));
    this.#catchUp();
  }

  /** The selection, as positions in the text. */
  get selection() {
    return [this.#area.selectionStart, this.#area.selectionEnd];
  }

  #typed() {
    const { value, selectionEnd } = this.#area;
    if (value === this.#seen) return;
    const edit = diff(this.#seen, value, selectionEnd);
    const delta = transform(this.#unseen, edit, true);
    this.#unseen = transform(edit, this.#unseen, false);
    this.#seen = value;
    const now = performance.now();
    this.#text.edit(delta, { joined: now - this.#lastEdit < TOGETHER });
    this.#lastEdit = now;
  }

  #moved(delta) {
    this.#lastEdit = 0;
    if (this.#composing) this.#unseen = diff(`${this.#seen}\n`, this.#text.shown);
    else this.#catchUp(delta);
  }

  /** Show the text, which differs from what is shown by `delta`. */
  #catchUp(delta = diff(`${this.#seen}\n`, this.#text.shown)) {
    const area = this.#area;
    if (area.value === this.#text.text) return;
    const { selectionStart, selectionEnd, selectionDirection, scrollTop } = area;
    area.value = this.#seen = this.#text.text;
    this.#unseen = [];
    const at = (position) => Math.min(transformPosition(delta, position, true), area.value.length);
    area.setSelectionRange(at(selectionStart), at(selectionEnd), selectionDirection);
    area.scrollTop = scrollTop;
  }

  #key(event) {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key !== 'z' && key !== 'y') return;
    event.preventDefault();
    this.back(key === 'y' || event.shiftKey ? 'redo' : 'undo');
  }

  /** `undo` or `redo`, with the cursor where it happened. */
  back(way) {
    this.#lastEdit = 0;
    const delta = this.#text[way]();
    if (!delta.length) return;
    this.#catchUp(delta);
    const end = endOf(delta);
    this.#area.setSelectionRange(end, end);
  }
}

/** Where the last edit of a delta ends. */
function endOf(delta) {
  let at = 0;
  let end = 0;
  for (const op of delta) {
    at += op.retain ?? op.insert?.length ?? 0;
    if (op.retain === undefined) end = at;
  }
  return end;
}

/** A name is shown while its cursor moves; then it leaves the text below it to be read. */
function showForAWhile(label) {
  label.getAnimations().forEach((animation) => animation.cancel());
  label.animate({ opacity: [1, 1, 0] }, { duration: 3_000, fill: 'forwards' });
}

/** The others' cursors, drawn over a textarea: a hidden copy of its text tells where they are. */
export class CursorLayer {
  #area;
  #layer;
  #mirror;
  #shown = new Map(); // peer id -> element

  constructor(area, layer) {
    this.#area = area;
    this.#layer = layer;
    this.#mirror = document.createElement('div');
    this.#mirror.className = 'mirror';
    layer.append(this.#mirror);
  }

  draw(people) {
    const here = people.filter((person) => person.cursor);
    for (const [id, element] of this.#shown) {
      if (here.some((person) => person.id === id)) continue;
      element.remove();
      this.#shown.delete(id);
    }
    const places = this.#places(here.map((person) => person.cursor[1]));
    here.forEach((person, index) => this.#place(person, places[index]));
  }

  #place(person, { left, top, height }) {
    let element = this.#shown.get(person.id);
    if (!element) {
      element = document.createElement('div');
      element.append(document.createElement('span'));
      this.#layer.append(element);
      this.#shown.set(person.id, element);
    }
    const y = top - this.#area.scrollTop;
    element.className = y < 24 ? 'cursor first-line' : 'cursor';
    element.style.setProperty('--hue', person.color);
    element.style.height = `${height}px`;
    element.style.transform = `translate(${left}px, ${y}px)`;
    const [label] = element.children;
    if (label.textContent !== person.name || element.dataset.at !== String(person.cursor)) {
      label.textContent = person.name;
      element.dataset.at = person.cursor;
      showForAWhile(label);
    }
    element.classList.toggle('flipped', left + label.offsetWidth > this.#layer.clientWidth);
  }

  #places(positions) {
    const text = this.#area.value;
    this.#mirror.style.width = `${this.#area.clientWidth}px`;
    const marks = positions.map(() => document.createElement('span'));
    const order = positions.map((_, index) => index).sort((a, b) => positions[a] - positions[b]);
    const parts = [];
    let at = 0;
    for (const index of order) {
      const position = Math.min(positions[index], text.length);
      marks[index].textContent = '\u200b';
      parts.push(text.slice(at, position), marks[index]);
      at = position;
    }
    this.#mirror.replaceChildren(...parts, `${text.slice(at)}\n`);
    return marks.map((mark) => ({
      left: mark.offsetLeft,
      top: mark.offsetTop,
      height: mark.offsetHeight,
    }));
  }
}
