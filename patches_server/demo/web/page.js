// The page: two documents, the people, the state of saving, and a switch that goes offline.

import { Connection } from './connection.js';
import { transformPosition } from './delta.js';
import { FieldsReplica } from './fields-replica.js';
import { openKept } from './kept.js';
import { Presence } from './presence.js';
import { TasksView } from './tasks-view.js';
import { TextReplica } from './text-replica.js';
import { CursorLayer, TextView } from './text-view.js';

const ADJECTIVES = ['Amber', 'Brave', 'Calm', 'Clever', 'Eager', 'Gentle', 'Lucky', 'Quiet', 'Swift'];
const ANIMALS = ['Badger', 'Falcon', 'Fox', 'Heron', 'Lynx', 'Otter', 'Panda', 'Robin', 'Wren'];

const $ = (id) => document.getElementById(id);
const pick = (list) => list[Math.floor(Math.random() * list.length)];

// What was not sent when the page was left. The name belongs to this window alone.
const kept = await openKept();

const socketUrl = new URL('ws', location.href);
socketUrl.protocol = socketUrl.protocol.replace('http', 'ws');
const connection = new Connection(socketUrl);

// Documents.

const makers = {
  'welcome/text': (docId) => new TextReplica(connection, docId, '/body'),
  'lww/welcome-tasks': (docId) => new FieldsReplica(connection, docId),
};
const replicas = Object.entries(makers).map(([docId, make]) => make(docId));
const [text, tasks] = replicas;
const couriers = new Set(); // they send what closed windows have left

for (const replica of replicas) {
  const before = kept.read(replica.docId);
  if (before) replica.restore(before);
  let isDue = false;
  const keep = () => {
    if (isDue || !replica.isLoaded) return;
    isDue = true;
    queueMicrotask(() => {
      isDue = false;
      kept.write(replica.docId, replica.kept);
    });
  };
  replica.addEventListener('status', keep);
  replica.addEventListener('change', keep);
  replica.addEventListener('status', showStatus);
  replica.addEventListener('failure', ({ detail }) => showNotice(detail.message));
}

addEventListener('beforeunload', (event) => {
  if (!kept.outlives && replicas.some((replica) => replica.hasUnsent)) event.preventDefault();
});

// The state of saving, from what really is unsent.

function showStatus() {
  const state = !connection.isUp
    ? 'offline'
    : [...replicas, ...couriers].every((replica) => replica.isSaved)
      ? 'saved'
      : 'saving';
  const unsent = [...replicas, ...couriers].some((replica) => replica.hasUnsent);
  const words = {
    saved: 'Saved',
    saving: 'Saving…',
    offline: unsent ? `Offline: kept in this ${kept.outlives ? 'browser' : 'window only'}` : 'Offline',
  };
  $('status').dataset.state = state;
  if ($('status-text').textContent !== words[state]) $('status-text').textContent = words[state];
  $('text').disabled = !text.isLoaded;
}

let noticeTimer;
function showNotice(message) {
  $('notice').textContent = message;
  $('notice').hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => ($('notice').hidden = true), 5_000);
}

connection.addEventListener('up', showStatus);
connection.addEventListener('down', showStatus);

$('offline').addEventListener('click', () => {
  const goOffline = connection.isWanted;
  $('offline').setAttribute('aria-checked', String(goOffline));
  if (goOffline) connection.close();
  else connection.open();
});

// People.

const me = JSON.parse(sessionStorage.getItem('me')) ?? {
  name: `${pick(ADJECTIVES)} ${pick(ANIMALS)}`,
  color: Math.floor(Math.random() * 360),
};
const keepName = (name) => sessionStorage.setItem('me', JSON.stringify({ ...me, name }));
keepName(me.name);
const presence = new Presence(connection, { ...me, cursor: null });

function avatar({ name, color }, element) {
  element.classList.add('person');
  element.style.setProperty('--hue', color);
  element.textContent = name
    .split(/\s+/)
    .map((word) => [...word][0])
    .slice(0, 2)
    .join('');
  return element;
}

function showPeople() {
  const mine = avatar(presence.mine, document.createElement('button'));
  mine.classList.add('me');
  mine.type = 'button';
  mine.title = `${presence.mine.name} (you): change your name`;
  mine.setAttribute('aria-label', mine.title);
  mine.addEventListener('click', rename);
  const others = presence.people.map((person) => {
    const element = avatar(person, document.createElement('div'));
    element.title = person.name;
    element.setAttribute('role', 'img');
    element.setAttribute('aria-label', person.name);
    return element;
  });
  $('people').replaceChildren(
    ...[mine, ...others].map((element) => {
      const item = document.createElement('li');
      item.append(element);
      return item;
    }),
  );
  cursors.draw(presence.people);
}

function rename() {
  $('name').value = presence.mine.name;
  $('rename').returnValue = '';
  $('rename').showModal();
  $('name').select();
}

$('name').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter') return;
  event.preventDefault();
  $('rename').close('ok');
});

$('rename').addEventListener('close', () => {
  const name = $('name').value.trim();
  if ($('rename').returnValue !== 'ok' || !name) return;
  presence.update({ name });
  keepName(name);
  showPeople();
});

// The text.

const cursors = new CursorLayer($('text'), $('cursors'));
const textView = new TextView($('text'), text);

function showCounts() {
  const words = text.text.match(/\S+/g)?.length ?? 0;
  $('counts').textContent = `${words} ${words === 1 ? 'word' : 'words'}`;
}

// A cursor counts the letters before it: it is told when the others have all of ours. Until then
// their copy of it moves along with what comes, which may not be quite where it is: tell it again.
let isCursorDue = false;
function tellCursor() {
  const isHere = document.activeElement === $('text');
  const cursor = isHere ? textView.selection : null;
  isCursorDue ||= String(cursor) !== String(presence.mine.cursor);
  if (!isCursorDue || text.hasUnsent) return;
  isCursorDue = false;
  presence.update({ cursor });
}

for (const kind of ['local', 'remote']) {
  text.addEventListener(kind, ({ detail: delta }) => {
    // Who is here has what we are still catching up with: their cursors point into it already.
    if (kind === 'local' || text.isCaughtUp) {
      presence.moveCursors((position) => transformPosition(delta, position, kind === 'local'));
    }
    cursors.draw(presence.people);
    showCounts();
  });
}
text.addEventListener('remote', () => {
  isCursorDue ||= presence.mine.cursor !== null;
  tellCursor();
});
text.addEventListener('status', tellCursor);
$('text').addEventListener('blur', tellCursor);
$('text').addEventListener('scroll', () => cursors.draw(presence.people));
document.addEventListener('selectionchange', tellCursor);
new ResizeObserver(() => cursors.draw(presence.people)).observe($('text'));

// Tasks.

function showProgress(list) {
  const done = list.filter((task) => task.done).length;
  $('progress').textContent = list.length ? `${done} of ${list.length} done` : 'Nothing to do';
  $('meter').style.width = list.length ? `${(100 * done) / list.length}%` : '0';
}

const tasksView = new TasksView($('tasks'), tasks, {
  onDraw: showProgress,
  onEmpty: () => $('new-title').focus(),
});

$('new-task').addEventListener('submit', (event) => {
  event.preventDefault();
  const title = $('new-title').value.trim();
  if (!title) return;
  tasksView.add(title);
  $('new-title').value = '';
});

$('second').addEventListener('click', () => {
  window.open(location.href, '_blank', 'noopener,popup,width=980,height=720');
});

// Undo and redo of this window's own edits.

for (const [name, replica, view] of [
  ['text', text, textView],
  ['tasks', tasks, tasksView],
]) {
  const undo = $(`${name}-undo`);
  const redo = $(`${name}-redo`);
  const show = () => {
    undo.disabled = !replica.canUndo;
    redo.disabled = !replica.canRedo;
  };
  for (const kind of ['status', 'change', 'local', 'remote']) replica.addEventListener(kind, show);
  undo.addEventListener('click', () => view.back('undo'));
  redo.addEventListener('click', () => view.back('redo'));
}

// What windows that are closed have left unsent is sent by a replica of its own, and then fetched.

function send(docId, value, drop) {
  const courier = value && makers[docId]?.(docId);
  courier?.restore(value);
  if (!courier?.hasUnsent) return drop();
  couriers.add(courier);
  const sent = () => {
    if (!courier.isSaved) return;
    courier.removeEventListener('status', sent);
    couriers.delete(courier);
    drop();
    replicas.find((replica) => replica.docId === docId).refresh();
    showStatus();
  };
  courier.addEventListener('status', sent);
  courier.addEventListener('failure', ({ detail }) => showNotice(detail.message));
}

for (const { name, value, drop } of await kept.adopt()) send(name, value, drop);

presence.addEventListener('change', showPeople);
showPeople();
showStatus();
showCounts();
connection.open();
