/** Fields as parameters of an address (`?count=10&user=u_42`): one each, of scalar type. */
import { ProtocolError } from './errors.ts';
import type { Field, Fields } from './schema.ts';

const INTEGER = /^-?(?:0|[1-9][0-9]{0,15})$/;

/** Whether a field can be one parameter. */
export function isScalar(field: Field): boolean {
  if (field.type === 'optional') return isScalar(field.of);
  return field.type !== 'list' && field.type !== 'map' && field.type !== 'record';
}

/**
 * The JSON value of the parameters, for Shape.fromJson, which checks the fields.
 * Errors: `invalid_field` for a repeated parameter, or a number or truth value that is none.
 */
export function jsonOfParameters(
  fields: Fields,
  parameters: Iterable<readonly [name: string, value: string]>,
): unknown {
  const json = new Map<string, unknown>();
  for (const [name, value] of parameters) {
    if (json.has(name)) throw new ProtocolError('invalid_field', `${name}: the parameter is there twice`, name);
    json.set(name, Object.hasOwn(fields, name) ? jsonOf(name, fields[name] as Field, value) : value);
  }
  return Object.fromEntries(json);
}

function jsonOf(name: string, field: Field, value: string): unknown {
  switch (field.type) {
    case 'optional':
      return jsonOf(name, field.of, value);
    case 'int':
      if (INTEGER.test(value)) return Number(value);
      throw new ProtocolError('invalid_field', `${name}: an integer is expected`, name);
    case 'bool':
      if (value === 'true' || value === 'false') return value === 'true';
      throw new ProtocolError('invalid_field', `${name}: true or false is expected`, name);
    default:
      return value;
  }
}
