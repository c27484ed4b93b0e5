// Fractional indexes: keys that sort as text, with room for another between any two.

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** A key after `before` and ahead of `after`; either may be empty: no bound. No key ends in `0`. Its
 *  last two digits are random: two windows that choose at once leave room between their keys. */
export function keyBetween(before = '', after = '') {
  return shortestBetween(before, after) + randomDigit() + randomDigit();
}

const randomDigit = () => DIGITS[1 + Math.floor(Math.random() * (DIGITS.length - 1))];

// Never the beginning of `after`, so any digits may follow.
function shortestBetween(before, after) {
  let key = '';
  for (let place = 0; ; place += 1) {
    const low = place < before.length ? DIGITS.indexOf(before[place]) : 0;
    const high = after && place < after.length ? DIGITS.indexOf(after[place]) : DIGITS.length;
    if (low === high) {
      key += DIGITS[low];
      continue;
    }
    const middle = (low + high) >> 1;
    if (middle > low) return key + DIGITS[middle];
    key += DIGITS[low];
    after = ''; // from here on anything is ahead of it
  }
}

/** By order, then by id: the same in every window. */
export function inOrder(a, b) {
  if (a.order !== b.order) return a.order < b.order ? -1 : 1;
  return a.id < b.id ? -1 : 1;
}
