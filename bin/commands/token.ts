/** `troupe token`: signs a token with the data folder's secret. */
import { existsSync } from 'node:fs';
import { type Command, InvalidArgumentError } from 'commander';
import { issueToken, readOrMakeSecret } from '../../cluster/edge/tokens.ts';
import { locateDataFolder } from '../data-folder.ts';
import { Failure } from '../failure.ts';
import { print } from '../output.ts';
import { addDataOption } from '../server-access.ts';

type TokenFlags = {
  readonly role: string[];
  readonly sub: string;
  readonly ttl: number;
  readonly data?: string;
  readonly json?: boolean;
};

const UNITS_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const MAX_LIFE_MS = 366 * UNITS_MS.d; // A token cannot be taken back before its end.

export function define(command: Command): void {
  addDataOption(command)
    .requiredOption('--role <roles>', 'what it allows: names, with commas between', rolesOf)
    .requiredOption('--sub <name>', 'who it is for (subject, at most 128 bytes)')
    .option('--ttl <duration>', 'how long it is valid: 30s, 15m, 1h, 7d', durationOf, UNITS_MS.h)
    .option('--json', 'print JSON')
    .action(run);
}

function rolesOf(text: string): string[] {
  const roles = text.split(',');
  const wrong = roles.find((role) => !/^[a-z][a-zA-Z0-9_]{0,31}$/.test(role));
  if (wrong !== undefined)
    throw new InvalidArgumentError(`"${wrong}" is not the name of a role (letters, digits and _).`);
  if (roles.includes('system'))
    throw new InvalidArgumentError('No token gives the role "system": only actors and timers have it.');
  return roles;
}

function durationOf(text: string): number {
  const [, count = '', unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const lifeMs = Number(count) * UNITS_MS[unit as keyof typeof UNITS_MS];
  if (lifeMs > 0 && lifeMs <= MAX_LIFE_MS) return lifeMs;
  throw new InvalidArgumentError('From 1s to 366d: a number and s, m, h or d.');
}

async function run({ role: roles, sub, ttl: lifeMs, data, json }: TokenFlags): Promise<void> {
  const folder = locateDataFolder({ data }, process.env);
  if (!existsSync(folder.secretFile)) {
    throw new Failure(
      `there is no secret in ${folder.path}`,
      ['troupe up   makes one at its first start; name its folder with --data'],
      'no_secret',
    );
  }
  if (sub === '' || Buffer.byteLength(sub) > 128) throw new Failure('--sub: 1 to 128 bytes', [], 'invalid_option');
  const token = await issueToken(readOrMakeSecret(folder.secretFile), { principal: sub, roles, lifeMs });
  print(
    json === true,
    { token, subject: sub, roles, expiresAt: new Date(Date.now() + lifeMs).toISOString() },
    () => token,
  );
}
