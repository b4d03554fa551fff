-- SPDX-License-Identifier: MIT
--- The array object: a handle of the library with methods, fields and operators.
--
-- An array is a small C structure with a metatype, not a table: it can have a finalizer,
-- hot loops over arrays compile, and `==` is identity (nd.equal compares elements). The
-- methods themselves stand in the nd_*.lua files, which add them to `methods` and `fields`.
--
-- Rules for all callers of the library:
--   Read what is needed of an array into locals first, then fill the argument buffers, then
--   call. Reading allocates in interpreted code, may so run the collector and with it a
--   finalizer that uses the same buffers.
--   No tail calls and no loops in what may be hot: `return (f(x))`, not `return f(x)`. LuaJIT
--   takes 15 tail calls in a trace for a loop without end, and no inner loop at all: it
--   would not compile the loop of our caller.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local context = require 'neap.context'
local dtype = require 'neap.dtype'
local memory = require 'neap.memory'
local raise = require 'neap.raise'

local M = {}

---@class neap.Array
---@field shape integer[] one number for each dimension, a new table at each reading
---@field ndim integer
---@field size integer the number of elements
---@field dtype string
---@field ctx neap.Device
---@field stype string 'default' or 'row_sparse'
---@field indices neap.Array row-sparse only: ids of the rows present (int64, ascending); waits
---@field values neap.Array row-sparse only: those rows; waits
local Array

--- Methods by name, and functions that compute a field's value from the array.
M.methods, M.fields = {}, {}
local methods, fields = M.methods, M.fields

local STYPES = { [C.NEAP_DENSE] = 'default', [C.NEAP_ROW_SPARSE] = 'row_sparse' }

local metatype = {}

function metatype.__index(self, key)
  local method = methods[key]
  if method ~= nil then return method end
  local field = fields[key]
  if field ~= nil then return (field(self)) end
  if type(key) == 'number' then
    raise.raise('arrays are not indexed by [%s]: a:at(i) is row i, counted from 0', key)
  end
  raise.raise('neap.Array has no field or method %s', raise.describe(key))
end

function metatype.__newindex(_, key)
  raise.raise('cannot assign to %s of an array: a:set(v) and a:at(i):set(v) change elements',
    raise.describe(key))
end

--- `#a`: the length of the first dimension.
function metatype.__len(self)
  local info = M.info(self)
  if info.ndim == 0 then raise.raise('# of an array without dimensions') end
  return (tonumber(info.shape[0]))
end

local function no_order()
  raise.raise('arrays are not compared by < and >: nd.less and nd.greater compare elements')
end
metatype.__lt, metatype.__le = no_order, no_order

function metatype.__concat()
  raise.raise('arrays are not joined by ..: use nd.concat, or tostring(a) for text')
end

local function close(self)
  local handle = self._h
  if handle ~= nil then
    self._h = nil
    memory.give(self._bytes)
    C.neap_array_close(handle)
  end
end
metatype.__gc = close

--- Gives the array's memory back now instead of when the collector finds it. Work queued
-- on it completes first. May be called again; any other use afterwards raises.
methods.close = close

-- A structure without a name, so that this module can be unloaded and loaded again.
-- _bytes is what the collector was told the array holds; _info belongs to the handle.
Array = ffi.metatype(ffi.typeof [[struct {
  neap_array *_h;
  const neap_array_info *_info;
  double _bytes;
}]], metatype)

--- For operators, which stand in another file.
M.metatype = metatype

--- Whether `x` is an array.
---@param x any
---@return boolean
local function is(x) return (ffi.istype(Array, x)) end
M.is = is

--- Makes an array object of a handle, which it then owns.
---@param handle ffi.cdata* neap_array *
---@param bytes? number what it holds, where that is not its elements (views)
---@return neap.Array
function M.adopt(handle, bytes)
  local info = C.neap_array_get_info(handle)
  local held = memory.OVERHEAD
  if info.stype == C.NEAP_DENSE then
    held = held + (bytes or tonumber(info.size) * info.itemsize)
  end
  local array = Array(handle, info, held) -- owned before anything can raise
  if info.stype ~= C.NEAP_DENSE then memory.look() end
  memory.take(held)
  return array
end

local function closed() raise.raise('this array was closed') end

--- The handle of an array; raises for anything else, naming the function and its argument.
---@param x any
---@param where string
---@return ffi.cdata* neap_array *
function M.handle(x, where)
  if not is(x) then raise.raise('%s: an array is wanted, not %s', where, raise.describe(x)) end
  local handle = x._h
  if handle == nil then closed() end
  return handle
end

--- What an array is; raises if it was closed.
local function info_of(self)
  if self._h == nil then closed() end
  return self._info
end
M.info = info_of

function fields.shape(self)
  local info = info_of(self)
  local n, d = info.ndim, info.shape
  if n == 1 then return { tonumber(d[0]) } end
  if n == 2 then return { tonumber(d[0]), tonumber(d[1]) } end
  if n == 3 then return { tonumber(d[0]), tonumber(d[1]), tonumber(d[2]) } end
  local shape = {}
  for i = 1, n do shape[i] = tonumber(d[i - 1]) end
  return shape
end
function fields.ndim(self) return info_of(self).ndim end
function fields.size(self) return (tonumber(info_of(self).size)) end
function fields.dtype(self) return dtype.name[info_of(self).dtype] end
function fields.stype(self) return STYPES[info_of(self).stype] end
function fields.ctx(self)
  local info = info_of(self)
  return (context.device(info.device_type, info.device_id))
end

--- A shape as text: '(2,3)', '(2,)', '()', as in the library's own errors.
---@param info ffi.cdata* neap_array_info
---@return string
function M.shape_text(info)
  local parts = {}
  for i = 1, info.ndim do parts[i] = ('%d'):format(tonumber(info.shape[i - 1])) end
  return '(' .. table.concat(parts, ',') .. (info.ndim == 1 and ',)' or ')')
end

--- Whether two arrays have the same shape.
---@return boolean
function M.same_shape(a, b)
  local ia, ib = a._info, b._info
  if ia.ndim ~= ib.ndim then return false end
  for i = 0, ia.ndim - 1 do
    if ia.shape[i] ~= ib.shape[i] then return false end
  end
  return true
end

function raise.describe_array(value)
  if not is(value) then return nil end
  if value._h == nil then return 'a closed array' end
  return ('an array %s %s'):format(M.shape_text(value._info), dtype.name[value._info.dtype])
end

--- The number of an operation that the library is sure to have.
---@param name string
---@return integer
function M.op(name)
  local number = C.neap_op_find(name)
  assert(number >= 0, name)
  return number
end

-- ---- Arguments shared by constructors ------------------------------------------------------

local shape_buffer = ffi.new('int64_t[?]', C.NEAP_MAX_DIM)

local function dimension(n, where)
  if type(n) ~= 'number' or n % 1 ~= 0 or n < 0 or n > 2 ^ 53 then
    raise.raise('%s: a dimension is an integer from 0, not %s', where, raise.describe(n))
  end
  return n
end

local function set_dimension(shape, i, where, free)
  local n = shape[i]
  shape_buffer[i - 1] = (free and n == -1) and -1 or dimension(n, where)
end

--- Reads a shape: a table of numbers, or one number. The buffer is valid until the next
-- call.
---@param shape integer|integer[]
---@param where string
---@param free? boolean one place may be -1 (reshape)
---@return integer ndim
---@return ffi.cdata* dimensions int64_t *
function M.read_shape(shape, where, free)
  if type(shape) == 'number' then
    shape_buffer[0] = (free and shape == -1) and -1 or dimension(shape, where)
    return 1, shape_buffer
  end
  if type(shape) ~= 'table' then
    raise.raise('%s: a shape is a table of numbers or one number, not %s', where,
      raise.describe(shape))
  end
  local ndim = #shape
  if ndim > C.NEAP_MAX_DIM then
    raise.raise('%s: %d dimensions; there can be %d at most', where, ndim, C.NEAP_MAX_DIM)
  end
  if ndim >= 1 then set_dimension(shape, 1, where, free) end
  if ndim >= 2 then set_dimension(shape, 2, where, free) end
  if ndim >= 3 then set_dimension(shape, 3, where, free) end
  if ndim >= 4 then set_dimension(shape, 4, where, free) end
  for i = 5, ndim do set_dimension(shape, i, where, free) end
  return ndim, shape_buffer
end

local OPTIONS = { dtype = true, ctx = true }

--- Reads `{dtype =, ctx =}`: numbers for the library. `extra` names one more valid option.
---@return integer dtype
---@return integer device_type
---@return integer device_id
function M.read_options(opts, where, extra)
  if opts == nil then return dtype.FLOAT32, C.NEAP_CPU, 0 end
  if type(opts) ~= 'table' then
    raise.raise('%s: options are a table, not %s', where, raise.describe(opts))
  end
  for name in pairs(opts) do
    if not OPTIONS[name] and name ~= extra then
      raise.raise('%s: unknown option %s; there are dtype, ctx%s', where, raise.describe(name),
        extra and ', ' .. extra or '')
    end
  end
  local device = opts.ctx
  if device == nil then return dtype.find(opts.dtype), C.NEAP_CPU, 0 end
  if not context.is_device(device) then
    raise.raise('%s: ctx is a device, such as neap.cpu(0), not %s', where, raise.describe(device))
  end
  return dtype.find(opts.dtype), device.code, device.device_id
end

local out = ffi.new('neap_array *[1]')

--- A new dense array; what it holds is not defined.
---@return neap.Array
function M.create(id, ndim, dimensions, device_type, device_id)
  raise.check(C.neap_array_create(context.handle(), id, ndim, dimensions, device_type,
    device_id, out))
  return (M.adopt(out[0]))
end

--- A new dense array like `self`, of another dtype if one is given.
---@return neap.Array
function M.create_like(self, id)
  local info = info_of(self)
  return (M.create(id or info.dtype, info.ndim, info.shape, info.device_type, info.device_id))
end

return M
