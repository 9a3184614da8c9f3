/**
 * Which machines Troupe runs on. What was tried is let through; what cannot work is refused by its name, with what to
 * do instead, before anything is installed.
 */
import { isAtLeast } from './versions.mjs';

/**
 * @typedef {object} Platform
 * @property {string} system `process.platform`
 * @property {string} processor `process.arch`
 * @property {string} node version without the `v`
 * @property {string | undefined} glibc version; none means that the C library is another one
 */

const inContainer = 'Run it in a Linux container or virtual machine instead, for example the image node:22-bookworm.';
const chooseNode =
  'Install Node 20 (20.19 or later) or Node 22 (22.12 or later), for example with your version manager.';

/** @returns {Platform} */
export function thisPlatform() {
  return { system: process.platform, processor: process.arch, node: process.versions.node, glibc: glibcVersion() };
}

/**
 * Why Troupe does not run here, as text for a person; nothing where it does.
 * @param {Platform} platform
 * @returns {string | undefined}
 */
export function refusalFor({ system, processor, node, glibc }) {
  if (system === 'darwin') return `Troupe does not run on macOS yet: it was tried on Linux only. ${inContainer}`;
  if (system === 'win32') return `Troupe does not run on Windows: use WSL 2 with Debian or Ubuntu. ${inContainer}`;
  if (system !== 'linux') return `Troupe does not run on ${system}: it was tried on Linux only. ${inContainer}`;
  if (processor !== 'x64' && processor !== 'arm64') {
    return `Troupe does not run on ${processor} processors: its websocket server comes for x64 and arm64 only.`;
  }
  const nodeRefusal = refusalForNode(node);
  if (nodeRefusal !== undefined) return nodeRefusal;
  if (glibc === undefined) {
    return `Troupe does not run on musl (Alpine): its websocket server needs glibc 2.34 or later. ${inContainer}`;
  }
  if (!isAtLeast(glibc, '2.34')) {
    return `Troupe needs glibc 2.34 or later and this system has ${glibc}: use Debian 12, Ubuntu 22.04 or later. ${inContainer}`;
  }
  return undefined;
}

/**
 * @param {string} node
 * @returns {string | undefined}
 */
function refusalForNode(node) {
  const major = Number(node.split('.')[0]);
  if (major > 22) {
    return `Troupe does not run on Node ${node}: its websocket server has no binary for it yet. ${chooseNode}`;
  }
  const least = major === 20 ? '20.19.0' : '22.12.0';
  if (major === 21 || !isAtLeast(node, least)) return `Troupe does not run on Node ${node}. ${chooseNode}`;
  return undefined;
}

/** @returns {string | undefined} */
function glibcVersion() {
  if (process.platform !== 'linux' || process.report === undefined) return undefined;
  // Without this the report looks up the name of every open socket, which can take seconds.
  Object.assign(process.report, { excludeNetwork: true });
  const report = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (process.report.getReport());
  return report.header.glibcVersionRuntime;
}
