/**
 * The determinism rule over actors/: nothing there may depend on the machine, the moment or what ran before. The same
 * state and record must give the same result on every node, today and in a replay next year.
 *
 * A name that a file does not declare must be on the list of globals that the language fixes exactly, so whatever is
 * not known is refused. Some names are refused even if declared, since hiding them would blind this check. There is no
 * way to switch it off for a line. What it cannot see (a bug in a declared name, BigInt or number) is left to the traps
 * and the laws test.
 */
import { parseSync, visitorKeys } from 'oxc-parser';
import { type Finding, isTestFile, lineAt, type SourceFile } from './source-file.ts';

type Node = { readonly type: string; readonly start: number; readonly end: number; readonly [key: string]: unknown };

const clock = 'Time comes from ctx.now.';
const random = 'Randomness comes from ctx.random and ctx.id.';
const waiting = 'A handler is synchronous; waiting is a timer or an effect.';
const outside = 'A handler reaches nothing outside; ask for an effect.';
const locale = 'Texts must not depend on the locale.';
const collected = 'What the garbage collector decides differs between machines, and snapshots cannot see into it.';
const code = 'Code made from texts cannot be checked.';

/** Refused wherever they stand as a name, with the reason. */
const refusedNames: Readonly<Record<string, string>> = {
  Date: clock,
  performance: clock,
  crypto: random,
  setTimeout: waiting,
  setInterval: waiting,
  setImmediate: waiting,
  clearTimeout: waiting,
  clearInterval: waiting,
  clearImmediate: waiting,
  queueMicrotask: waiting,
  Promise: waiting,
  process: outside,
  globalThis: outside,
  global: outside,
  window: outside,
  self: outside,
  fetch: outside,
  console: outside,
  require: outside,
  Intl: locale,
  WeakRef: collected,
  WeakMap: collected,
  WeakSet: collected,
  FinalizationRegistry: collected,
  eval: code,
  Function: code,
  SharedArrayBuffer: 'Memory shared with other threads changes between two reads.',
  Atomics: 'Memory shared with other threads changes between two reads.',
  parseFloat: 'Amounts are integers in smallest units; long decimals are rounded as the machine likes.',
};

/** Refused as `.name` on anything. */
const refusedMembers: Readonly<Record<string, string>> = {
  localeCompare: locale,
  stack: 'A stack trace differs between builds.',
  captureStackTrace: 'A stack trace differs between builds.',
  fromAsync: waiting,
};

/** What `Math` holds that the language fixes to the last bit; sines, logarithms and powers may differ between machines. */
const exactMath: ReadonlySet<string> = new Set(
  'abs ceil clz32 floor fround imul max min round sign sqrt trunc E LN10 LN2 LOG10E LOG2E PI SQRT1_2 SQRT2'.split(' '),
);

const exactGlobals: ReadonlySet<string> = new Set(
  [
    'undefined NaN Infinity arguments Object Array Number BigInt String Boolean Symbol Map Set JSON Math RegExp Reflect',
    'Error TypeError RangeError SyntaxError parseInt isNaN isFinite TextEncoder TextDecoder ArrayBuffer DataView',
    'Int8Array Uint8Array Uint8ClampedArray Int16Array Uint16Array Int32Array Uint32Array Float32Array Float64Array',
    'BigInt64Array BigUint64Array encodeURIComponent decodeURIComponent',
  ].flatMap((line) => line.split(' ')),
);

/** TypeScript's nodes hold types, which do not run, except these, which wrap what does. */
const wrappers: ReadonlySet<string> = new Set([
  'TSAsExpression',
  'TSSatisfiesExpression',
  'TSNonNullExpression',
  'TSTypeAssertion',
  'TSInstantiationExpression',
  'TSParameterProperty',
]);

export function checkDeterminism(files: readonly SourceFile[]): Finding[] {
  return files.filter(({ path }) => path.startsWith('actors/') && !isTestFile(path)).flatMap(checkFile);
}

function checkFile({ path, text }: SourceFile): Finding[] {
  const { program, errors } = parseSync(path, text);
  if (errors[0] !== undefined) return [{ path, line: 1, message: `Not readable: ${errors[0].message}` }];
  const declared = new Set<string>();
  walk(program as unknown as Node, (node) => {
    for (const name of namesDeclaredBy(node)) declared.add(name);
  });
  const findings: Finding[] = [];
  const report = (node: Node, message: string) => {
    findings.push({ path, line: lineAt(text, node.start), message });
  };
  walk(program as unknown as Node, (node, parent, key) => {
    const message = objectionTo(node, parent, key, declared);
    if (message !== undefined) report(node, message);
  });
  for (const node of moduleStatements(program as unknown as Node)) {
    if (holdsState(node, text))
      report(node, 'State outside an actor is missing from snapshots and shared by all actors.');
  }
  return findings;
}

/** Visits every node that runs, each before its children. */
function walk(root: Node, visit: (node: Node, parent: Node | undefined, key: string) => void): void {
  const enter = (node: Node, parent: Node | undefined, parentKey: string) => {
    if (node.type.startsWith('TS') && !wrappers.has(node.type)) return;
    visit(node, parent, parentKey);
    for (const key of visitorKeys[node.type] ?? []) {
      for (const child of [node[key]].flat()) if (isNode(child)) enter(child, node, key);
    }
  };
  enter(root, undefined, '');
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value;
}

function objectionTo(
  node: Node,
  parent: Node | undefined,
  key: string,
  declared: ReadonlySet<string>,
): string | undefined {
  switch (node.type) {
    case 'Identifier':
      return isReference(parent, key) ? objectionToName(node, parent, key, declared) : undefined;
    case 'MemberExpression':
      return objectionToMember(node);
    case 'Property':
      // `const { random } = Math` names a member as much as `Math.random` does.
      return parent?.type === 'ObjectPattern' ? objectionToMemberName(memberName(node, 'key')) : undefined;
    case 'AwaitExpression':
      return waiting;
    case 'ForOfStatement':
      return node.await === true ? waiting : undefined;
    case 'FunctionDeclaration':
    case 'FunctionExpression':
    case 'ArrowFunctionExpression':
      return node.async === true ? waiting : undefined;
    case 'ForInStatement':
      return 'for-in also visits what was inherited; loop over Object.keys.';
    case 'ImportExpression':
      return 'What a handler needs is there from the start; no dynamic import.';
    case 'MetaProperty':
      return (node.meta as Node).name === 'import' ? outside : undefined;
    case 'BinaryExpression':
    case 'AssignmentExpression':
      return String(node.operator).startsWith('**') && !isExactPower(node)
        ? 'Powers are rounded as the machine likes; multiply integers, or use a table.'
        : undefined;
    case 'ImportDeclaration':
    case 'ExportNamedDeclaration':
    case 'ExportAllDeclaration':
      return objectionToSource(node.source);
    default:
      return undefined;
  }
}

function objectionToSource(source: unknown): string | undefined {
  if (!isNode(source) || String(source.value).startsWith('.')) return undefined;
  return `Actors import only their own files, the definition and the protocol, not ${String(source.value)}.`;
}

function objectionToName(
  node: Node,
  parent: Node | undefined,
  key: string,
  declared: ReadonlySet<string>,
): string | undefined {
  const name = String(node.name);
  const reason = Object.hasOwn(refusedNames, name) ? refusedNames[name] : undefined;
  if (reason !== undefined) return `${name}: ${reason} (If it is a name of yours, choose another.)`;
  if (declared.has(name)) return undefined;
  if (name === 'Math' && !(parent?.type === 'MemberExpression' && key === 'object')) {
    return 'Math may only stand before the name of one of its members.';
  }
  return exactGlobals.has(name) ? undefined : `${name} is not among the globals known to be the same on every machine.`;
}

function objectionToMember(node: Node): string | undefined {
  const name = memberName(node, 'property');
  const object = node.object as Node;
  if (object.type === 'Identifier' && object.name === 'Math' && (name === undefined || !exactMath.has(name))) {
    return `Math.${name ?? '[...]'} is not exact on every machine.`;
  }
  return objectionToMemberName(name);
}

function objectionToMemberName(name: string | undefined): string | undefined {
  if (name === undefined) return undefined;
  if (name.startsWith('toLocale')) return `${name}: ${locale}`;
  return Object.hasOwn(refusedMembers, name) ? `${name}: ${refusedMembers[name]}` : undefined;
}

/** The name in `a.name`, `a['name']` and `{ name }`; nothing if it is computed while running. */
function memberName(node: Node, key: 'property' | 'key'): string | undefined {
  const name = node[key] as Node;
  if (name.type === 'Literal') return String(name.value);
  return node.computed === true ? undefined : String(name.name);
}

/** Whether an identifier stands for a variable, rather than naming a member, a label or something imported. */
function isReference(parent: Node | undefined, key: string): boolean {
  switch (parent?.type) {
    case 'MemberExpression':
      return key === 'object' || parent.computed === true;
    case 'Property':
    case 'MethodDefinition':
    case 'PropertyDefinition':
    case 'AccessorProperty':
      return key !== 'key' || parent.computed === true;
    case 'ImportSpecifier':
      return key === 'local';
    case 'ExportAllDeclaration':
    case 'LabeledStatement':
    case 'BreakStatement':
    case 'ContinueStatement':
      return key === 'body';
    case 'ExportSpecifier': // Only what the file itself declares, or another file, can be exported by name.
    case 'MetaProperty':
      return false;
    default:
      return true;
  }
}

function namesDeclaredBy(node: Node): string[] {
  switch (node.type) {
    case 'VariableDeclarator':
      return namesInPattern(node.id);
    case 'FunctionDeclaration':
    case 'FunctionExpression':
    case 'ArrowFunctionExpression':
      return [...namesInPattern(node.id), ...(node.params as unknown[]).flatMap(namesInPattern)];
    case 'ClassDeclaration':
    case 'ClassExpression':
      return namesInPattern(node.id);
    case 'CatchClause':
      return namesInPattern(node.param);
    case 'ImportSpecifier':
    case 'ImportDefaultSpecifier':
    case 'ImportNamespaceSpecifier':
      return namesInPattern(node.local);
    default:
      return [];
  }
}

function namesInPattern(pattern: unknown): string[] {
  if (!isNode(pattern)) return [];
  switch (pattern.type) {
    case 'Identifier':
      return [String(pattern.name)];
    case 'ObjectPattern':
      return (pattern.properties as unknown[]).flatMap(namesInPattern);
    case 'Property':
      return namesInPattern(pattern.value);
    case 'ArrayPattern':
      return (pattern.elements as unknown[]).flatMap(namesInPattern);
    case 'AssignmentPattern':
      return namesInPattern(pattern.left);
    case 'RestElement':
      return namesInPattern(pattern.argument);
    case 'TSParameterProperty':
      return namesInPattern(pattern.parameter);
    default:
      return [];
  }
}

/** `2 ** 53` is computed by the compiler's own rules once, and powers of BigInts are exact. */
function isExactPower(node: Node): boolean {
  const left = node.left as Node;
  const right = node.right as Node;
  const isInteger = (side: Node) => side.type === 'Literal' && Number.isInteger(side.value);
  return (left.type === 'Literal' && typeof left.bigint === 'string') || (isInteger(left) && isInteger(right));
}

/** Declarations that live as long as the module: those at its top, and the static members of its classes. */
function moduleStatements(program: Node): Node[] {
  const found: Node[] = [];
  for (const statement of program.body as Node[]) {
    const inner = statement.declaration;
    const declaration = isNode(inner) ? inner : statement;
    if (declaration.type === 'VariableDeclaration') found.push(declaration);
  }
  walk(program, (node) => {
    if (node.type === 'PropertyDefinition' && node.static === true) found.push(node);
  });
  return found;
}

function holdsState(node: Node, text: string): boolean {
  if (node.type === 'PropertyDefinition') return node.readonly !== true;
  if (node.kind !== 'const') return true;
  return (node.declarations as Node[]).some((declarator) => startsEmpty(declarator, text));
}

/** An empty collection that is not declared readonly is there to be filled. */
function startsEmpty(declarator: Node, text: string): boolean {
  const start = declarator.init;
  const annotation = (declarator.id as Node).typeAnnotation;
  if (!isNode(start)) return false;
  if (isNode(annotation) && /^:\s*readonly/i.test(text.slice(annotation.start, annotation.end))) return false;
  if (start.type === 'ArrayExpression') return (start.elements as unknown[]).length === 0;
  if (start.type === 'ObjectExpression') return (start.properties as unknown[]).length === 0;
  const made = start.type === 'NewExpression' ? (start.callee as Node).name : undefined;
  return (made === 'Map' || made === 'Set') && (start.arguments as unknown[]).length === 0;
}
