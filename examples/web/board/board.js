// The board: the first tasks by votes, of many more than are here.

import { CollectionsReplica, newKey } from './collections.js';
import { Connection } from './connection.js';

const $ = (id) => document.getElementById(id);
const user = new URLSearchParams(location.search).get('user') ?? 'ann';
for (const link of document.querySelectorAll('.users a')) {
  if (link.dataset.user === user) link.setAttribute('aria-current', 'page');
}

const url = new URL('ws', location.href);
url.protocol = url.protocol.replace('http', 'ws');
url.search = new URLSearchParams({ user });
const connection = new Connection(url);
const board = new CollectionsReplica(connection, 'board/plans', { onDemand: ['tasks'] });
const top20 = board.query({ table: 'tasks', orderBy: [['votes', 'desc']], limit: 20 });

// What is shown.

const shown = new Map(); // key -> its element

function show() {
  const rows = top20.rows;
  const before = new Map([...shown].map(([key, item]) => [key, item.getBoundingClientRect().top]));
  const most = Math.max(1, ...rows.map((row) => row.votes));
  const items = rows.map((row, place) => {
    const item = shown.get(row.id) ?? newItem(row.id);
    const votes = item.querySelector('.votes');
    const isNew = votes.textContent !== '' && votes.textContent !== String(row.votes);
    item.querySelector('.rank').textContent = place + 1;
    item.querySelector('.title').textContent = row.title;
    votes.textContent = row.votes;
    item.querySelector('.share div').style.width = `${(100 * row.votes) / most}%`;
    item.classList.toggle('pending', board.isPending('tasks', row.id));
    if (isNew) lightUp(item);
    return item;
  });
  const keys = new Set(rows.map((row) => row.id));
  for (const key of shown.keys()) if (!keys.has(key)) shown.delete(key);
  if (items.some((item, place) => $('ideas').children[place] !== item) || items.length !== $('ideas').children.length) {
    $('ideas').replaceChildren(...items);
    for (const [key, item] of shown) slide(item, before.get(key));
  }
  $('summary').textContent = top20.isLoading ? 'Loading…' : `The first ${rows.length} of 5,000, live`;
  $('more').hidden = !top20.hasMore;
}

function newItem(key) {
  const item = document.createElement('li');
  item.className = 'idea';
  item.innerHTML = `
    <span class="rank"></span>
    <div class="what"><div class="title"></div><div class="share" aria-hidden="true"><div></div></div></div>
    <button class="vote" type="button" aria-label="Vote"><span aria-hidden="true">▲</span><span class="votes"></span></button>
    <button class="drop" type="button" aria-label="Delete" title="Delete">
      <svg width="14" height="14" viewBox="0 0 14 14" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" aria-hidden="true"><path d="M3 3l8 8M11 3l-8 8" /></svg>
    </button>`;
  item.querySelector('.vote').addEventListener('click', () => {
    const row = board.rows('tasks').get(key);
    if (row) board.update('tasks', key, { votes: row.votes + 1 });
  });
  item.querySelector('.drop').addEventListener('click', () => board.delete('tasks', key));
  shown.set(key, item);
  return item;
}

function lightUp(item) {
  item.classList.remove('fresh');
  requestAnimationFrame(() => item.classList.add('fresh'));
}

/** Let a row that has another place move there. */
function slide(item, from) {
  const distance = from === undefined ? 0 : from - item.getBoundingClientRect().top;
  if (!distance || matchMedia('(prefers-reduced-motion: reduce)').matches) return;
  item.animate([{ transform: `translateY(${distance}px)` }, { transform: 'none' }], {
    duration: 260,
    easing: 'ease-out',
  });
}

function showStatus() {
  const state = !connection.isUp ? 'offline' : board.isSaved ? 'saved' : 'saving';
  const offline = board.hasUnsent ? 'Offline: your votes wait' : 'Offline';
  const words = { saved: 'Saved', saving: 'Saving…', offline };
  $('status').dataset.state = state;
  $('status-text').textContent = words[state];
}

let noticeTimer;
function showNotice(message) {
  $('notice').textContent = message;
  $('notice').hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => ($('notice').hidden = true), 5_000);
}

let isDue = false;
board.addEventListener('change', () => {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    show();
  });
});
board.addEventListener('status', showStatus);
board.addEventListener('rejected', ({ detail }) => showNotice(`Taken back: ${detail.error.message}`));
connection.addEventListener('up', showStatus);
connection.addEventListener('down', showStatus);

// What people do.

$('new-idea').addEventListener('submit', (event) => {
  event.preventDefault();
  const title = $('new-title').value.trim();
  if (!title) return;
  const [first] = top20.rows;
  board.insert('tasks', { id: newKey(), title, votes: (first?.votes ?? 0) + 1 });
  $('new-title').value = '';
});

$('more').addEventListener('click', () => top20.more(20));

$('offline').addEventListener('click', () => {
  const goOffline = connection.isWanted;
  $('offline').setAttribute('aria-checked', String(goOffline));
  if (goOffline) connection.close();
  else connection.open();
});

show();
connection.open();
