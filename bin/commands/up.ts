/** `troupe up`: a cluster of this machine in the foreground, until control-C. */
import { type Command, Option } from 'commander';
import { OPTIONS, type OptionName, type OptionSpec, type Options, variableOf } from '../../config/options.ts';
import { type RunningCluster, type Stage, startCluster } from '../embedded.ts';
import { Failure } from '../failure.ts';
import { grouped } from '../output.ts';
import type { HostReport } from '../roles/host-role.ts';

export function define(command: Command): void {
  for (const spec of Object.values(OPTIONS) as OptionSpec[])
    for (const option of optionsFor(spec)) command.addOption(option);
  command.option('--json', 'print one JSON value per stage');
  command.addHelpText(
    'after',
    '\nEach option may also be set by its variable, or in <data>/troupe.json: {"demoRate": 100}',
  );
  command.action(run);
}

function optionsFor(spec: OptionSpec): Option[] {
  const { flag, unit, about, fallback } = spec;
  if (typeof fallback === 'boolean') {
    const yes = new Option(`--${flag}`, `${about} (${variableOf(spec)}=yes)`);
    const no = new Option(`--no-${flag}`, `do not ${about} (${variableOf(spec)}=no)`);
    return [yes.hideHelp(fallback), no.hideHelp(!fallback)]; // The one that changes something is shown.
  }
  const bounds = spec.min === undefined ? (spec.values?.join(' | ') ?? '') : `${spec.min} to ${spec.max}`;
  const notes = [bounds, fallback === '' ? '' : `default: ${fallback}`, variableOf(spec)].filter((note) => note !== '');
  return [new Option(`--${flag} <${unit}>`, `${about} (${notes.join(', ')})`)];
}

async function run(given: Partial<Options> & { json?: boolean }): Promise<void> {
  const { json = false, ...flags } = given;
  const told = Object.fromEntries(Object.entries(flags).filter(([name]) => Object.hasOwn(OPTIONS, name as OptionName)));
  const onStage = (stage: Stage) => console.log(json ? JSON.stringify(stage) : textOf(stage));
  const end = endRequested();
  let cluster: RunningCluster | undefined;
  end.onSecond = () => {
    cluster?.kill();
    process.exit(1);
  };
  const starting = startCluster(told as Partial<Options>, { environment: process.env, onStage });
  cluster = await starting;
  const reason = await Promise.race([end.first, cluster.gaveUp]);
  if (reason !== undefined)
    throw new Failure(`a part could not be kept running: ${reason}`, [`Logs: ${cluster.folder.logs}`], 'gave_up');
  await cluster.stop();
  process.exit(0);
}

const SAME_SIGNAL_MS = 500; // Under `npm start` one control-C arrives twice: from the terminal, and passed on by npm.

/** The first signal asks for a clean end, a later one ends at once. */
function endRequested(): { readonly first: Promise<undefined>; onSecond: () => void } {
  let firstMs: number | undefined;
  let settle: () => void = () => undefined;
  const end = {
    first: new Promise<undefined>((resolve) => {
      settle = () => resolve(undefined);
    }),
    onSecond: (): void => process.exit(1),
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const nowMs = performance.now();
      firstMs ??= nowMs;
      if (nowMs === firstMs) settle();
      else if (nowMs - firstMs > SAME_SIGNAL_MS) end.onSecond();
    });
  }
  return end;
}

function textOf(stage: Stage): string {
  switch (stage.stage) {
    case 'versions':
      return [
        `troupe ${stage.troupe} on Node ${stage.node}`,
        `nats-server ${stage.natsServer} (${stage.natsPath})`,
        `${stage.websocketBinary} sha256 ${stage.websocketSha256}`,
      ].join('\n');
    case 'folder':
      return `data folder ${stage.path}${stage.isNew ? ' (new)' : ''}${stage.ended.length > 0 ? `; ended what a killed run had left: ${stage.ended.join(', ')}` : ''}`;
    case 'nats':
      return `nats-server ready in ${stage.tookMs} ms, process ${stage.pid}\ndurability ${stage.durability}: ${stage.canBeLost}`;
    case 'host':
      return hostText(stage);
    case 'edge':
      return `edge ready in ${stage.tookMs} ms, process ${stage.pid}; operations at ${stage.operationsUrl} (/healthz, /readyz, /metrics)`;
    case 'demo':
      return `demo market (synthetic, seed ${stage.seed}): ${stage.commandsPerSecond} commands/s`;
    case 'ready':
      return `ready ${stage.url}`;
    case 'died':
      return `${stage.process} died: ${stage.reason}; starting it again${stage.restartMs > 0 ? ` in ${stage.restartMs} ms` : ''}`;
    case 'restarted':
      return `${stage.process} is back, process ${stage.pid}${stage.process === 'host' ? `; ${recoveryText(stage.report as HostReport)}` : ''}`;
    case 'log_problem':
      return `the log stores nothing now, commands are refused: ${stage.reason}`;
    case 'log_well':
      return 'the log stores again';
    case 'gave_up':
      return `${stage.process} is given up: ${stage.reason}`;
    case 'stopping':
      return 'stopping (control-C again ends at once)';
    case 'stopped':
      return 'stopped';
  }
}

function hostText(stage: Extract<Stage, { stage: 'host' }>): string {
  const { partitions, tookMs, pid, halted } = stage;
  const lines = [
    `host ready in ${tookMs} ms, process ${pid}: ${partitions} partitions; ${recoveryText(stage)}; operations at http://127.0.0.1:${stage.operationsPort}`,
  ];
  for (const { partition, reason } of halted)
    lines.push(`  ${partition} is HALTED: ${reason}\n    see: troupe accept-loss ${partition}`);
  return lines.join('\n');
}

/** What was read is the tail of the logs behind the checkpoints: the tails of partitions that had commands in it are named. */
function recoveryText({ recoveredMessages, recoveredCommands, longestMs, recoveries }: HostReport): string {
  const tails = recoveries.map(
    ({ partition, from, to, commands }) => `${partition} ${from}..${to}: ${grouped(commands)} commands`,
  );
  const shown = tails.length > 0 ? `; ${tails.slice(0, 3).join(', ')}${tails.length > 3 ? ', ...' : ''}` : '';
  return `recovered ${grouped(recoveredMessages)} messages / ${grouped(recoveredCommands)} commands (longest partition ${longestMs} ms)${shown}`;
}
