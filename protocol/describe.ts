/** The documentation of a kind's interface in Markdown, from its schema. */
import { type CommandSpec, isField, type KindInterface, type QuerySpec, type TopicSpec } from './interface.ts';
import type { Field, Fields } from './schema.ts';
import { shapeOf } from './shape.ts';

/** A section per command, query and topic, and a table of the rejections. */
export function describeKind(kind: KindInterface): string {
  const parts = [
    `# ${kind.kind}`,
    ...section('Commands', kind.commands, describeCommand),
    ...section('Queries', kind.queries, describeQuery),
    ...section('Topics', kind.topics, (topic) => describeTopic(kind, topic)),
    ...describeRejections(kind.rejections),
  ];
  return `${parts.join('\n\n')}\n`;
}

function section<S extends { readonly about?: string; readonly roles?: readonly string[] }>(
  title: string,
  specs: { readonly [name: string]: S },
  describe: (spec: S) => string[],
): string[] {
  const entries = Object.entries(specs);
  if (entries.length === 0) return [];
  return [
    `## ${title}`,
    ...entries.flatMap(([name, spec]) => [`### ${name}`, ...introduction(spec), ...describe(spec)]),
  ];
}

function introduction({ about, roles }: { readonly about?: string; readonly roles?: readonly string[] }): string[] {
  const who =
    roles === undefined
      ? 'For everyone with a valid token.'
      : `Roles: ${roles.map((role) => `\`${role}\``).join(', ')}.`;
  return about === undefined ? [who] : [about, who];
}

function describeCommand({ fields, reply, binary }: CommandSpec): string[] {
  return [...described('Fields', fields), ...(binary ? [layoutTable(fields)] : []), ...described('Reply', reply)];
}

function describeQuery({ fields, reply }: QuerySpec): string[] {
  return [...described('Fields', fields), ...described('Answer', reply)];
}

function describeTopic(kind: KindInterface, topic: TopicSpec): string[] {
  if ('lossy' in topic) {
    const sentence = `Lossy: a slow reader gets the newest state, the answer of the query \`${topic.lossy}\`.`;
    return [sentence, ...described('Event', topic.event)];
  }
  const table = kind.tables[topic.table];
  const sentence = `Lossless: every event, from any offset that the table \`${topic.table}\` still holds.`;
  return [sentence, ...described('Event', table?.row ?? {})];
}

function describeRejections(rejections: { readonly [name: string]: string }): string[] {
  const rows = Object.entries(rejections).map(([name, sentence]) => [`\`${name}\``, sentence]);
  return rows.length === 0 ? [] : ['## Rejections', table(['Name', 'Meaning'], rows)];
}

function described(title: string, description: Field | Fields): string[] {
  if (isField(description)) return [`${title}: ${describeField(description)}.`];
  const entries = Object.entries(description);
  if (entries.length === 0) return [`${title}: none.`];
  const rows = entries.map(([name, field], place) => [String(place), `\`${name}\``, describeField(field)]);
  return [`${title}:`, table(['Place', 'Name', 'Type'], rows)];
}

function layoutTable(fields: Fields): string {
  const shape = shapeOf(fields, { binary: true });
  const rows = shape
    .layoutTable()
    .map(({ name, offset, bytes, type }) => [String(offset), String(bytes), type, `\`${name}\``]);
  return `Binary layout, ${shape.maxBytes} bytes:\n\n${table(['Offset', 'Bytes', 'Type', 'Name'], rows)}`;
}

/** What a field may hold, as a phrase. */
function describeField(field: Field): string {
  switch (field.type) {
    case 'int':
      return `integer, ${field.min} to ${field.max}`;
    case 'bool':
      return 'true or false';
    case 'text':
      return describeText(field.minBytes, field.maxBytes, field.pattern);
    case 'bytes':
      return `bytes, at most ${field.maxBytes}`;
    case 'choice':
      return `one of ${field.values.map((value) => `\`${value}\``).join(', ')}`;
    case 'list':
      return `list of at most ${field.maxItems} (${describeField(field.of)})`;
    case 'map':
      return `map of at most ${field.maxItems} (${describeField(field.of)})`;
    case 'optional':
      return `${describeField(field.of)}; may be absent`;
    case 'record':
      return `{ ${Object.entries(field.fields)
        .map(([name, inner]) => `${name}: ${describeField(inner)}`)
        .join('; ')} }`;
  }
}

function describeText(minBytes: number, maxBytes: number, pattern: string | undefined): string {
  const length = minBytes > 0 ? `${minBytes} to ${maxBytes} bytes` : `at most ${maxBytes} bytes`;
  return pattern === undefined ? `text, ${length}` : `text, ${length}, matching \`${pattern}\``;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
