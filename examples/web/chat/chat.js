// A conversation: the newest messages of the user's store, and the answer while it is written.

import { CollectionsReplica, newKey } from './collections.js';
import { Connection } from './connection.js';

const $ = (id) => document.getElementById(id);
const TABLE = 'chat_message';
const user = new URLSearchParams(location.search).get('user') ?? 'ann';

const url = new URL('ws', location.href);
url.protocol = url.protocol.replace('http', 'ws');
url.search = new URLSearchParams({ user });
const connection = new Connection(url);
const home = new CollectionsReplica(connection, `user/${user}`, { onDemand: [TABLE] });
const newest = home.query({ table: TABLE, orderBy: [['created_at', 'desc']], limit: 100 });

const shown = new Map(); // key -> its element

function show() {
  const rows = newest.rows.reverse();
  const isAtEnd = $('messages').scrollHeight - $('messages').scrollTop - $('messages').clientHeight < 60;
  const items = rows.map((row) => {
    const item = shown.get(row.id) ?? newItem(row.id);
    item.className = `message ${row.role}`;
    item.classList.toggle('pending', home.isPending(TABLE, row.id));
    item.classList.toggle('partial', home.isPartial(TABLE, row.id));
    const content = item.querySelector('.content');
    if (content.textContent !== row.content) content.textContent = row.content;
    return item;
  });
  const keys = new Set(rows.map((row) => row.id));
  for (const key of shown.keys()) if (!keys.has(key)) shown.delete(key);
  const there = $('messages').children;
  if (items.length !== there.length || items.some((item, place) => there[place] !== item)) {
    $('messages').replaceChildren(...items);
  }
  if (isAtEnd) $('messages').scrollTop = $('messages').scrollHeight;
}

function newItem(key) {
  const item = document.createElement('li');
  item.innerHTML = '<span class="content"></span><button class="drop" type="button" title="Delete" aria-label="Delete">✕</button>';
  item.querySelector('.drop').addEventListener('click', () => home.delete(TABLE, key));
  shown.set(key, item);
  return item;
}

function showStatus() {
  const state = !connection.isUp ? 'offline' : home.isSaved ? 'saved' : 'saving';
  const offline = home.hasUnsent ? 'Offline: your messages wait' : 'Offline';
  const words = { saved: 'Saved', saving: 'Sending…', offline };
  $('status').dataset.state = state;
  $('status-text').textContent = words[state];
}

let noticeTimer;
home.addEventListener('rejected', ({ detail }) => {
  $('notice').textContent = `Taken back: ${detail.error.message}`;
  $('notice').hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => ($('notice').hidden = true), 5_000);
});
home.addEventListener('change', () => requestAnimationFrame(show));
home.addEventListener('status', showStatus);
connection.addEventListener('up', showStatus);
connection.addEventListener('down', showStatus);

$('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  const content = $('question').value.trim();
  if (!content) return;
  // the server says whose it is, and when it was written
  const row = { id: newKey(), user_id: user, created_at: Date.now(), role: 'user', content };
  home.insert(TABLE, row);
  $('question').value = '';
});

$('offline').addEventListener('click', () => {
  const goOffline = connection.isWanted;
  $('offline').setAttribute('aria-checked', String(goOffline));
  if (goOffline) connection.close();
  else connection.open();
});

show();
connection.open();
