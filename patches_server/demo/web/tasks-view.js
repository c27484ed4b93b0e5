// The list of tasks: add, check, rename, reorder (by pointer or with the arrow keys), delete.

import { inOrder, keyBetween } from './order.js';
import { newId } from './replica.js';

const GRIP =
  '<svg width="12" height="16" viewBox="0 0 12 16" fill="currentColor" aria-hidden="true">' +
  '<circle cx="3" cy="3" r="1.500"/><circle cx="9" cy="3" r="1.500"/><circle cx="3" cy="8" r="1.500"/>' +
  '<circle cx="9" cy="8" r="1.500"/><circle cx="3" cy="13" r="1.500"/><circle cx="9" cy="13" r="1.500"/></svg>';
const CROSS =
  '<svg width="14" height="14" viewBox="0 0 14 14" fill="none" stroke="currentColor" stroke-width="1.800"' +
  ' stroke-linecap="round" aria-hidden="true"><path d="M3 3l8 8M11 3l-8 8"/></svg>';

const TOGETHER = 700; // milliseconds: edits of a title closer than this are taken back as one

export class TasksView {
  #list;
  #doc;
  #rows = new Map(); // task id -> element
  #dragged = null;
  #onDraw;
  #onEmpty;
  #lastTyped = 0;

  constructor(list, doc, { onDraw, onEmpty }) {
    this.#list = list;
    this.#doc = doc;
    this.#onDraw = onDraw;
    this.#onEmpty = onEmpty;
    doc.addEventListener('change', () => this.draw());
    list.addEventListener('keydown', (event) => this.#key(event));
    this.draw();
  }

  /** The tasks, in order. One that others have deleted may leave single fields: it is not whole. */
  get tasks() {
    return Object.entries(this.#doc.state.tasks ?? {})
      .filter(([, task]) => typeof task?.title === 'string' && typeof task.order === 'string')
      .map(([id, task]) => ({ id, title: task.title, done: task.done === true, order: task.order }))
      .sort(inOrder);
  }

  /** Add a task at the end. */
  add(title) {
    const order = keyBetween(this.tasks.at(-1)?.order);
    this.#doc.edit(`/tasks/${newId(8)}`, { title, done: false, order });
  }

  #typed(id, title) {
    const now = performance.now();
    this.#doc.edit(`/tasks/${id}/title`, title, { joined: now - this.#lastTyped < TOGETHER });
    this.#lastTyped = now;
  }

  #key(event) {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key !== 'z' && key !== 'y') return;
    event.preventDefault();
    this.back(key === 'y' || event.shiftKey ? 'redo' : 'undo');
  }

  /** `undo` or `redo`. */
  back(way) {
    this.#lastTyped = 0;
    this.#doc[way]();
  }

  draw() {
    if (this.#dragged) return; // the list stands still while something is dragged in it
    const focused = document.activeElement;
    const { tasks } = this;
    for (const [id, row] of this.#rows) {
      if (tasks.some((task) => task.id === id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    tasks.forEach((task, index) => {
      const row = this.#row(task);
      if (this.#list.children[index] !== row) {
        this.#list.insertBefore(row, this.#list.children[index] ?? null);
      }
    });
    if (focused !== document.activeElement && this.#list.contains(focused)) focused.focus();
    this.#onDraw(tasks);
  }

  #row(task) {
    let row = this.#rows.get(task.id);
    if (!row) {
      row = this.#newRow(task.id);
      this.#rows.set(task.id, row);
    }
    const [grip, box, title, remove] = row.children;
    row.classList.toggle('done', task.done);
    box.checked = task.done;
    box.setAttribute('aria-label', `Done: ${task.title}`);
    grip.setAttribute('aria-label', `Move ${task.title}: arrow up, arrow down`);
    remove.setAttribute('aria-label', `Delete ${task.title}`);
    if (title.value !== task.title) {
      const { selectionStart, selectionEnd } = title;
      title.value = task.title;
      if (title === document.activeElement) title.setSelectionRange(selectionStart, selectionEnd);
    }
    return row;
  }

  #newRow(id) {
    const row = document.createElement('li');
    row.className = 'task';
    row.dataset.id = id;
    row.innerHTML =
      `<button type="button" class="grip">${GRIP}</button><input type="checkbox" />` +
      `<input class="title" aria-label="Title" maxlength="200" />` +
      `<button type="button" class="remove">${CROSS}</button>`;
    const [grip, box, title, remove] = row.children;
    box.addEventListener('change', () => this.#doc.edit(`/tasks/${id}/done`, box.checked));
    title.addEventListener('input', () => this.#typed(id, title.value));
    title.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') title.blur();
    });
    remove.addEventListener('click', () => this.#remove(id, row));
    grip.addEventListener('keydown', (event) => this.#moveByKey(event, id));
    grip.addEventListener('pointerdown', (event) => this.#drag(event, row));
    return row;
  }

  /** The focus goes on to the next task, for who works by keyboard. */
  #remove(id, row) {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    this.#doc.edit(`/tasks/${id}`, undefined);
    if (next) next.querySelector('.remove').focus();
    else this.#onEmpty();
  }

  #moveByKey(event, id) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const { tasks } = this;
    const from = tasks.findIndex((task) => task.id === id);
    const to = from + step;
    if (to < 0 || to >= tasks.length) return;
    tasks.splice(to, 0, ...tasks.splice(from, 1));
    this.#putBetween(id, tasks[to - 1], tasks[to + 1]);
  }

  #drag(event, row) {
    event.preventDefault();
    event.currentTarget.focus();
    this.#dragged = row;
    row.classList.add('dragged');
    const move = ({ clientY }) => {
      const others = [...this.#list.children].filter((each) => each !== row);
      const next = others.find((each) => {
        const { top, height } = each.getBoundingClientRect();
        return clientY < top + height / 2;
      });
      if (row.nextElementSibling !== (next ?? null)) this.#list.insertBefore(row, next ?? null);
    };
    const end = () => {
      listening.abort();
      row.classList.remove('dragged');
      this.#dragged = null;
      this.#dropped(row);
    };
    // On the document, not the grip: moving the row in the list would end a capture.
    const listening = new AbortController();
    const { signal } = listening;
    document.addEventListener('pointermove', move, { signal });
    document.addEventListener('pointerup', end, { signal });
    document.addEventListener('pointercancel', end, { signal });
  }

  #dropped(row) {
    const byId = new Map(this.tasks.map((task) => [task.id, task]));
    const neighbour = (element) => byId.get(element?.dataset.id);
    const before = neighbour(row.previousElementSibling);
    const after = neighbour(row.nextElementSibling);
    const own = byId.get(row.dataset.id);
    const inPlace =
      (!before || (own && inOrder(before, own) < 0)) && (!after || (own && inOrder(own, after) < 0));
    if (own && !inPlace) this.#putBetween(own.id, before, after);
    else this.draw();
  }

  #putBetween(id, before, after) {
    this.#doc.edit(`/tasks/${id}/order`, keyBetween(before?.order, after?.order));
  }
}
