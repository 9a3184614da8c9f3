/** Version numbers as people write them: `2.15.1`, `v2.15.1`, `2.36`, `v2.16.0-RC.1`. */

/**
 * Whether `found` is `least` or later. A pre-release comes before its release; what is no version is never enough.
 * @param {string | undefined} found
 * @param {string} least
 * @returns {boolean}
 */
export function isAtLeast(found, least) {
  return found !== undefined && parse(found) !== undefined && compareVersions(found, least) >= 0;
}

/**
 * Order for sorting, oldest first.
 * @param {string} left
 * @param {string} right
 * @returns {number}
 */
export function compareVersions(left, right) {
  const a = parse(left) ?? [];
  const b = parse(right) ?? [];
  for (let index = 0; index < 4; index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/**
 * @param {string} text
 * @returns {number[] | undefined} major, minor, patch, and 0 for a release or -1 for a pre-release
 */
function parse(text) {
  const match = /^v?(\d+)\.(\d+)(?:\.(\d+))?(-[0-9A-Za-z.-]+)?$/.exec(text.trim());
  if (match === null) return undefined;
  return [Number(match[1]), Number(match[2]), Number(match[3] ?? 0), match[4] === undefined ? 0 : -1];
}
