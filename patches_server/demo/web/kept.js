// What the server does not have yet, kept in the browser's storage, so that it outlives its window.
//
// Each window keeps its own work under its own id, and holds a lock of that name for as long as it
// is open. A window that opens finds the work of windows that are closed, whose locks are free, and
// takes it over: the lock sees to it that only one does. Without locks (a page that was not loaded
// over https or from this machine) or without room, work is kept for a reload of the window alone.

const PREFIX = 'patches/';
const lockOf = (id) => `${PREFIX}window/${id}`;
const keyOf = (id, name) => `${PREFIX}${id}/${name}`;

/** Open the storage for this window. */
export async function openKept() {
  const before = sessionStorage.getItem('window');
  // A window that was duplicated has the id of the other, which holds the lock.
  const id = before && (await hold(before)) ? before : crypto.randomUUID?.() ?? String(Math.random());
  const outlives = id === before || (await hold(id));
  sessionStorage.setItem('window', id);
  return new Kept(id, outlives && hasRoom());
}

class Kept {
  #id;
  #storage;

  constructor(id, outlives) {
    this.#id = id;
    /** Whether what is kept here is still there when the window has been closed. */
    this.outlives = outlives;
    this.#storage = outlives ? localStorage : sessionStorage;
  }

  read(name) {
    return parsed(this.#storage.getItem(keyOf(this.#id, name)));
  }

  write(name, value) {
    try {
      this.#storage.setItem(keyOf(this.#id, name), JSON.stringify(value));
    } catch {
      this.outlives = false; // no room: what was kept before is older than what is shown
      this.#storage.removeItem(keyOf(this.#id, name));
    }
  }

  /** The work of closed windows: `{name, value, drop()}`, each given to one window only. */
  async adopt() {
    if (!this.outlives) return [];
    const ids = new Set();
    for (const key of Object.keys(localStorage)) {
      const [prefix, id] = key.split('/');
      if (`${prefix}/` === PREFIX && id !== this.#id) ids.add(id);
    }
    const found = [];
    for (const id of ids) {
      if (!(await hold(id))) continue; // that window is open
      for (const key of Object.keys(localStorage)) {
        if (!key.startsWith(keyOf(id, ''))) continue;
        const name = key.slice(keyOf(id, '').length);
        const drop = () => localStorage.removeItem(key);
        found.push({ name, value: parsed(localStorage.getItem(key)), drop });
      }
    }
    return found;
  }
}

/** Hold the lock of a window until this one is closed; whether it was free. */
function hold(id) {
  if (!navigator.locks) return Promise.resolve(false);
  return new Promise((resolve) => {
    navigator.locks
      .request(lockOf(id), { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock && new Promise(() => {});
      })
      .catch(() => resolve(false));
  });
}

function hasRoom() {
  try {
    localStorage.setItem(`${PREFIX}room`, '1');
    localStorage.removeItem(`${PREFIX}room`);
    return true;
  } catch {
    return false;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text ?? 'null');
  } catch {
    return null;
  }
}
