-- SPDX-License-Identifier: MIT
--- Between arrays and Lua: from nested tables and C pointers, to tables, numbers, pointers.
--
-- Lua sees float16 and bfloat16 only as bits, so the library converts them (astype): out by
-- way of float32, in by way of float64, so that numbers are rounded once. int64 elements
-- become Lua numbers up to 2^53, and int64_t cdata beyond, so that no digit is lost.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local context = require 'neap.context'
local dtype = require 'neap.dtype'
local ops = require 'neap.nd_ops'
local raise = require 'neap.raise'

local M = {}
---@class neap.Array
local methods = array.methods

local EXACT = 2LL ^ 53LL -- integers up to here are Lua numbers

-- ---- Out: totable, item, data --------------------------------------------------------------

local pointer_out = ffi.new('void *[1]')

--- The elements in memory, once nothing queued uses them any more. Raises a late error.
local function pointer_of(self, where)
  local handle = array.handle(self, where)
  if C.neap_array_data(handle, pointer_out) ~= 0 then raise.raise_last() end
  return (ffi.cast(dtype.pointer[self._info.dtype], pointer_out[0]))
end

--- Waits for everything queued on the array, and gives its elements as they lie in memory,
-- row-major: float *, double *, int8_t *, uint8_t *, int32_t *, int64_t *, and uint16_t *
-- for the bits of float16 and bfloat16. Valid until the next operation that uses the array
-- is queued, and only while the array lives: a pointer keeps nothing alive, so hold on to
-- the array as long as you use it. Elements are counted from 0. Dense arrays only.
---@return ffi.cdata*
function methods:data() return (pointer_of(self, 'data')) end

--- Waits until the array's value is there; raises if the operation that makes it failed.
---@return neap.Array self
function methods:wait_to_read()
  if C.neap_array_wait(array.handle(self, 'wait_to_read')) ~= 0 then raise.raise_last() end
  return self
end

--- A dense array that Lua can read: row-sparse ones filled up with zeros, halves as float32.
-- Gives a second result where that is another array, to be closed after use.
function M.readable(self, where)
  array.handle(self, where)
  local readable = self
  if readable._info.stype ~= C.NEAP_DENSE then readable = readable:tostype('default') end
  if dtype.is_half(readable._info.dtype) then readable = readable:astype('float32') end
  return readable, readable ~= self and readable or nil
end

--- One element of int64 as a Lua number where that is exact, else as int64_t.
local function exact(value)
  if value >= -EXACT and value <= EXACT then return (tonumber(value)) end
  return value
end

--- Element `i` of a pointer, as Lua sees it.
function M.element(pointer, id, i)
  local value = pointer[i]
  if id == dtype.INT64 then return (exact(value)) end
  return value
end

local function to_rows(pointer, info, axis, offset)
  local n = tonumber(info.shape[axis])
  local rows = {}
  if axis < info.ndim - 1 then
    local step = 1
    for i = axis + 1, info.ndim - 1 do step = step * tonumber(info.shape[i]) end
    for i = 1, n do rows[i] = to_rows(pointer, info, axis + 1, offset + (i - 1) * step) end
  elseif info.dtype == dtype.INT64 then
    for i = 1, n do rows[i] = exact(pointer[offset + i - 1]) end
  else
    for i = 1, n do rows[i] = pointer[offset + i - 1] end
  end
  return rows
end

--- The elements as nested tables, one level for each dimension; a plain number where there
-- are none. Waits.
---@return table|number
function methods:totable()
  local readable, temporary = M.readable(self, 'totable')
  local pointer = pointer_of(readable, 'totable')
  local info = readable._info
  local values = info.ndim == 0 and M.element(pointer, info.dtype, 0)
    or to_rows(pointer, info, 0, 0)
  if temporary then temporary:close() end
  return values
end

--- The number that an array of one element holds. Waits.
---@return number
function methods:item()
  local readable, temporary = M.readable(self, 'item')
  if readable._info.size ~= 1 then
    raise.raise('item: an array of one element is wanted, this is %s', raise.describe(self))
  end
  local value = M.element(pointer_of(readable, 'item'), readable._info.dtype, 0)
  if temporary then temporary:close() end
  return value
end

-- ---- In: nested tables ---------------------------------------------------------------------

-- 't[2][1]', for error texts.
local function place(path, depth)
  local parts = { 't' }
  for i = 1, depth do parts[#parts + 1] = ('[%d]'):format(path[i]) end
  return table.concat(parts)
end

--- The shape of nested tables, by their first elements.
local function shape_of(values, where)
  local shape = {}
  while type(values) == 'table' do
    if #shape == C.NEAP_MAX_DIM then
      raise.raise('%s: tables are nested deeper than %d', where, C.NEAP_MAX_DIM)
    end
    shape[#shape + 1] = #values
    values = values[1]
  end
  return shape
end

local function wrong_element(value, path, depth, where)
  if array.is(value) then
    raise.raise('%s: %s is an array; nd.stack joins arrays', where, place(path, depth))
  elseif type(value) == 'table' then
    raise.raise('%s: ragged: %s is a table where a number is wanted', where, place(path, depth))
  end
  raise.raise('%s: %s is %s, not a number', where, place(path, depth), raise.describe(value))
end

--- A number for an element of dtype `id`; raises for what it cannot hold.
local function element_value(value, id, path, depth, where)
  if type(value) ~= 'number' then
    if not (ffi.istype('int64_t', value) or ffi.istype('uint64_t', value)) then
      wrong_element(value, path, depth, where)
    end
    if id == dtype.INT64 then return value end
    value = tonumber(value)
  end
  if not dtype.holds(id, value) then
    raise.raise('%s: %s is %.17g, which %s cannot hold', where, place(path, depth), value,
      dtype.name[id])
  end
  return value
end

--- Writes nested tables of `shape` to `pointer`, row-major; returns the next free place.
local function fill(pointer, id, values, shape, axis, next, path, where)
  local n = shape[axis]
  if type(values) ~= 'table' then
    raise.raise('%s: ragged: %s is %s where a table of %d is wanted', where,
      place(path, axis - 1), raise.describe(values), n)
  elseif #values ~= n then
    raise.raise('%s: ragged: %s has %d elements where %d are wanted', where,
      place(path, axis - 1), #values, n)
  end
  if axis < #shape then
    for i = 1, n do
      path[axis] = i
      next = fill(pointer, id, values[i], shape, axis + 1, next, path, where)
    end
    return next
  end
  for i = 1, n do
    path[axis] = i
    pointer[next + i - 1] = element_value(values[i], id, path, axis, where)
  end
  return next + n
end

--- A new array of nested tables, or of one number, for options already read.
local function from_nested(values, id, device_type, device_id, where)
  local shape = shape_of(values, where)
  local storage = dtype.is_half(id) and C.NEAP_FLOAT64 or id
  local ndim, dimensions = array.read_shape(shape, where)
  local result = array.create(storage, ndim, dimensions, device_type, device_id)
  local pointer = pointer_of(result, where)
  if ndim == 0 then
    pointer[0] = element_value(values, storage, {}, 0, where)
  else
    fill(pointer, storage, values, shape, 1, 0, {}, where)
  end
  if storage == id then return result end
  local half = result:astype(dtype.name[id])
  result:close()
  return half
end

-- ---- In: C pointers ------------------------------------------------------------------------

--- The dtype of what a pointer or C array points to; nil if that is none, or not known.
local function pointed_dtype(pointer)
  -- istype() takes pointers to signed and unsigned integers for the same; their names differ.
  local name = tostring(ffi.typeof(pointer))
  local unsigned = name:find('unsigned', 1, true) ~= nil or name:find('uint', 1, true) ~= nil
  for id = 0, C.NEAP_NUM_DTYPES - 1 do
    if not dtype.is_half(id) and ffi.istype(dtype.pointer[id], pointer)
      and unsigned == (id == C.NEAP_UINT8) then
      return id
    end
  end
end

local function from_pointer(data, opts, id, device_type, device_id)
  local name = tostring(ffi.typeof(data)) -- 'ctype<float [6]>', 'ctype<const float *>'
  local is_block = name:find('%]>$') ~= nil
  if not is_block and not name:find('%*>$') then
    raise.raise('array: nested tables, a number, an array or a C pointer is wanted, not %s',
      raise.describe(data))
  end
  local pointer = is_block and data + 0 or data
  local limit = is_block and ffi.sizeof(data) or math.huge
  if opts == nil or opts.shape == nil then
    raise.raise('array: a C pointer needs its shape: nd.array(p, {shape = {...}})')
  end
  if pointer == nil then raise.raise('array: the C pointer is NULL') end
  local known = pointed_dtype(pointer)
  if opts.dtype == nil then
    if known == nil then
      raise.raise('array: the dtype of %s is not clear: give dtype', raise.describe(data))
    end
    id = known
  elseif not ffi.istype('void *', pointer) and known ~= id
    and not (dtype.is_half(id) and ffi.istype('uint16_t *', pointer)) then
    raise.raise('array: %s does not point to %s; leave dtype away and convert by astype',
      raise.describe(data), dtype.name[id])
  end
  local ndim, dimensions = array.read_shape(opts.shape, 'array')
  local result = array.create(id, ndim, dimensions, device_type, device_id)
  local bytes = tonumber(result._info.size) * result._info.itemsize
  if bytes > limit then
    raise.raise('array: shape %s takes %d bytes, %s has %d', array.shape_text(result._info),
      bytes, raise.describe(data), limit)
  end
  raise.check(C.neap_array_write(result._h, pointer, bytes))
  return result
end

--- A new array of numbers. From nested tables the shape is seen, up to 8 levels; ragged
-- ones raise, and so does a number that the dtype cannot hold. From a C pointer or C array
-- elements are copied; it needs `shape`, and `dtype` only where its type does not tell
-- (16-bit floats, void *). From an array: a copy, converted where dtype or ctx differ.
---@param values table|number|neap.Array|ffi.cdata*
---@param opts? {dtype: string?, ctx: neap.Device?, shape: (integer|integer[])?}
---@return neap.Array
function M.array(values, opts)
  local id, device_type, device_id = array.read_options(opts, 'array', 'shape')
  if array.is(values) then
    if opts and opts.shape ~= nil then
      raise.raise('array: shape is for C pointers; a:reshape gives another shape')
    end
    local wanted = opts and opts.dtype or values.dtype
    local copy = values:astype(wanted)
    return opts and opts.ctx and copy:as_in_context(opts.ctx) or copy
  end
  local kind = type(values)
  if kind == 'cdata' and not (ffi.istype('int64_t', values) or ffi.istype('uint64_t', values)) then
    return (from_pointer(values, opts, id, device_type, device_id))
  end
  if kind ~= 'table' and kind ~= 'number' and kind ~= 'cdata' then
    raise.raise('array: nested tables, a number, an array or a C pointer is wanted, not %s',
      raise.describe(values))
  end
  if opts and opts.shape ~= nil then
    raise.raise('array: shape is for C pointers; nested tables have theirs')
  end
  return (from_nested(values, id, device_type, device_id, 'array'))
end

-- ---- Assigning -----------------------------------------------------------------------------

--- Changes all elements: to a number, to nested tables of this very shape, or to another
-- array's (broadcast, and converted to this dtype). After an error nothing is changed.
---@param value number|table|neap.Array
---@return neap.Array self
function methods:set(value)
  local handle = array.handle(self, 'set')
  local info = self._info
  if type(value) == 'number' then
    dtype.check_number(info.dtype, value, 'set')
    raise.check(C.neap_array_fill(handle, value))
    return self
  end
  local from = value
  if not array.is(value) then
    if type(value) ~= 'table' then
      raise.raise('set: a number, nested tables or an array is wanted, not %s',
        raise.describe(value))
    end
    from = from_nested(value, info.dtype, info.device_type, info.device_id, 'set')
    if not array.same_shape(self, from) then
      raise.raise('set: nested tables of shape %s into an array of shape %s',
        array.shape_text(from._info), array.shape_text(info))
    end
  end
  local source = array.handle(from, 'set')
  if from._info.dtype ~= info.dtype then
    from = from:astype(dtype.name[info.dtype])
    source = from._h
  end
  if C.neap_array_copy(source, handle) ~= 0 then
    if array.same_shape(self, from) then raise.raise_last() end
    ops.assign(self, from:as_in_context(context.device(info.device_type, info.device_id)))
  end
  return self
end

return M
